"""`make bench-queries`: how long reads take. The API over HTTP on loopback, one connection; panels as the reader role.

Prints for each case p50 and p95 over all its ranges, and p95 of each range. A read is timed from the request to the
last byte, or the last row, with the client's part in it.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psycopg

from bench.common import PROJECT, Printer, database, patient_engine, percentile, prepare
from bench.data import Recipe, World, bound, ensure, statements
from bench.reads import RANGES, ROUTES, Names, PanelQuery, Route, panel_queries, window
from store.deadlines import Deadlines
from store.engine import reading
from store.keys import create_key
from store.roles import create_reader
from store.settings import Settings

Timed = dict[str, list[float]]
"""Milliseconds by range."""


def main() -> None:
    """Make the data, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000, help="rows of each of the three large relations")
    parser.add_argument("--days", type=int, default=30, help="days that they lie in")
    parser.add_argument("--repeat", type=int, default=20, help="measurements of a case and range, after two more")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    arguments = parser.parse_args()
    with database(dict(os.environ)) as settings:
        edition, world, names, key, reader = asyncio.run(
            _prepare(settings, Recipe(size=arguments.size, days=arguments.days))
        )
        printer = Printer(bench="queries", edition=edition, size=arguments.size)
        measure = Measure(world=world, repeat=arguments.repeat, printer=printer)
        asked = [route for route in ROUTES if arguments.only in route.case]
        with api(settings) as connection:
            for route in asked:
                if not route.environ:
                    measure.route(route, names, key, connection)
        for route in asked:
            if route.environ:
                with api(settings, **route.environ) as connection:
                    measure.route(route, names, key, connection)
        with psycopg.connect(reader, autocommit=True) as connection:
            for panel in panel_queries():
                if arguments.only in panel.case:
                    measure.panel(panel, connection)


async def _prepare(settings: Settings, recipe: Recipe) -> tuple[str, World, Names, str, str]:
    edition = await prepare(settings)
    world = await ensure(settings, edition, recipe)
    engine = patient_engine(settings)
    try:
        async with reading(engine) as connection:

            async def some(name: str) -> tuple[object, ...]:
                values = {"project_id": world.project_id, "end_ts": world.end}
                return tuple((await connection.execute(bound(statements()[name], values))).scalars())

            kinds = ("agents", "services", "wallets", "payments", "requests")
            names = Names(**{kind: await some(f"some_{kind}") for kind in kinds})  # type: ignore[arg-type]
    finally:
        await engine.dispose()
    deadlines = Deadlines()
    key = await create_key(settings, project=PROJECT, name="bench", scopes=["read", "metrics"], deadlines=deadlines)
    return edition.value, world, names, key, await create_reader(settings, PROJECT, deadlines)


@contextmanager
def api(settings: Settings, **more: str) -> Iterator[http.client.HTTPConnection]:
    """The API in a process of its own, with more settings, and one connection to it."""
    port = settings.port + 90
    environ = {**os.environ, "TOLLWATCH_DATABASE_URL": settings.required_database_url, "TOLLWATCH_PORT": str(port)}
    environ |= more
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        command = [sys.executable, "-m", "cli", "api"]
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield _connected(port, process, Path(folder) / "log")
        finally:
            process.terminate()
            process.wait(30)


def _connected(port: int, process: subprocess.Popen[bytes], log: Path) -> http.client.HTTPConnection:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().read() and connection.sock is not None:
                return connection
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"the API did not start: {log.read_text(errors='replace')[-500:]}")


class Measure:
    """Repeats a read and prints its line."""

    def __init__(self, *, world: World, repeat: int, printer: Printer) -> None:
        self._world = world
        self._repeat = repeat
        self._warm_up = min(2, repeat - 1)
        self._printer = printer
        self._choices: dict[str, tuple[str, ...]] = {}
        self._failures = 0

    def route(self, route: Route, names: Names, key: str, connection: http.client.HTTPConnection) -> None:
        """One form of one route."""
        random = Random(route.case)

        headers = {"Authorization": f"Bearer {key}"}
        if route.path == "/metrics":
            headers["Accept-Encoding"] = "gzip"  # as Prometheus asks

        def ask(name: str) -> int:
            within = window(self._world, name, random) if name in RANGES else None
            connection.request("GET", route.url(random, names, within), headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status == 503:
                self._failures += 1  # it took longer than a read may take
            elif response.status != 200:
                raise SystemExit(f"{route.case}: {response.status} {body[:500]!r}")
            return len(body)

        # Scrapes are far between: the exporter reads facts in the background meanwhile, every ten seconds.
        pause = 1.05 if route.path == "/metrics" and not route.environ else 0.0
        self._print(route.case, route.kind, *self._timed(ask, route.ranges or ("now",), pause), "bytes")

    def panel(self, panel: PanelQuery, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        """One statement of a dashboard."""
        random = Random(panel.case)

        def ask(name: str) -> int:
            start, end = window(self._world, name, random)
            statement = panel.sql(start, end, self._variables(panel, connection))
            try:
                return len(connection.execute(statement.encode()).fetchall())
            except psycopg.errors.QueryCanceled:
                self._failures += 1  # it took longer than a reader's statement may take
                return 0

        self._print(panel.case, panel.kind, *self._timed(ask, tuple(RANGES)), "rows")

    def _variables(
        self, panel: PanelQuery, connection: psycopg.Connection[tuple[object, ...]]
    ) -> Mapping[str, tuple[str, ...]]:
        """Every choice at 'All', which is what a dashboard opens with and the most work."""
        for variable in panel.of.variables:
            if variable["name"] not in self._choices:
                asked = replace(panel, of=replace(panel.of, sql=variable["query"]))
                rows = connection.execute(
                    asked.sql(self._world.start, self._world.end, self._choices).encode()
                ).fetchall()
                chosen = tuple(str(row[0]) for row in rows)
                self._choices[variable["name"]] = chosen if variable["includeAll"] else chosen[:1]
                if variable.get("allValue"):
                    self._choices[variable["name"]] = (variable["allValue"].strip("'"),)
        return self._choices

    def _timed(self, ask: Callable[[str], int], ranges: tuple[str, ...], pause: float = 0.0) -> tuple[Timed, int]:
        taken: Timed = {name: [] for name in ranges}
        largest = 0
        for name, milliseconds in taken.items():
            for number in range(-self._warm_up, self._repeat):
                time.sleep(pause)
                started = time.perf_counter()
                found = ask(name)
                if number >= 0:
                    milliseconds.append((time.perf_counter() - started) * 1000)
                    largest = max(largest, found)
        return taken, largest

    def _print(self, case: str, kind: str, taken: Timed, largest: int, unit: str) -> None:
        every = [value for values in taken.values() for value in values]
        each = {f"p95_{name}_ms": round(percentile(values, 95), 2) for name, values in taken.items() if name in RANGES}
        figures = {"p50_ms": round(percentile(every, 50), 2), "p95_ms": round(percentile(every, 95), 2), **each}
        counts = {f"largest_{unit}": largest, "repeats": len(every), "timed_out": self._failures}
        self._printer.line(case, kind=kind, **figures, **counts)
        self._failures = 0


if __name__ == "__main__":
    main()
