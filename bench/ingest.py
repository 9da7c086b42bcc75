"""`make bench-ingest`: events a second into the database, of the API and of what it could be at best, in one run.

For `api_request` and `payment` events of full width, rounds interleaved, on one server and its real tables (indexes,
triggers, continuous aggregates):

- `bare`: the same rows, ready as Python tuples that psycopg encodes, as binary COPY into a temporary table, INSERT … ON
  CONFLICT DO NOTHING, 1,000 a transaction, one connection; no heads.
- `copy`: plain binary COPY into the relation, likewise: not exactly once.
- `api`: one API process and a load generator, on the same cores: bodies of 1,000, 100 and 1; 10 % repeated; paced at
  half the maximum rate.
- the same members into InfluxDB and VictoriaMetrics, where they are installed.

With --minutes: resident memory of the API at half the maximum rate, for so long.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from api.body import Body
from api.decode import Window, read_batch
from api.dependencies import Caller
from api.resolve import make_drafts
from bench import events
from bench.common import PATIENT, PROJECT, Printer, database, prepare
from bench.load import Order, Outcome
from bench.rivals import Rival, rivals
from store.aged_cache import utc_now
from store.deadlines import Deadlines
from store.directory import Directory
from store.drafts import resolve
from store.engine import create_engine
from store.keys import create_key
from store.named_sql import query
from store.settings import Settings
from store.tables import SCOPES
from store.writer import COLUMNS

RELATIONS = {"api_request": "api_requests", "payment": "payments"}
BATCH = 1_000
SMALL = {1_000: (1.0, 8), 100: (0.5, 32), 1: (0.02, 64)}
"""Events of a body → share of --events that is sent in such bodies, and connections."""
READY_S = 60.0


def main() -> None:
    """Run every case, round by round, and print the median of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="events of one measurement with bodies of 1,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0.0, help="watch resident memory for so long, and no more")
    arguments = parser.parse_args()
    with database(dict(os.environ)) as settings, rivals() as (others, missing):
        edition = asyncio.run(prepare(settings))
        made = create_key(settings, project=PROJECT, name="bench", scopes=SCOPES, deadlines=Deadlines())
        key = asyncio.run(made)
        printer = Printer(bench="ingest", edition=edition.value, size=arguments.events)
        with api(settings) as process:
            _register(settings, key)
            bench = Bench(settings=settings, key=key, api=process, size=arguments.events)
            if arguments.minutes:
                watch_memory(bench, printer, arguments.minutes)
                return
            for kind in events.KINDS:
                for _ in range(arguments.rounds):
                    for case, run in cases(bench, kind, others):
                        bench.measure(kind, case, run)
                report(bench, kind, printer)
        for other in others:
            printer.line(other.name, durability=other.durability)
        for name in missing:
            printer.line(name, installed=False)


Run = Callable[[], "Measured"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement. CPU in seconds; None: of processes that cannot be seen."""

    events: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    client_cpu_s: float | None = None
    database_cpu_s: float | None = None
    """Of a session that is over; None: of sessions that stay."""


@dataclass(kw_only=True)
class Bench:
    """What is measured, and the figures so far."""

    settings: Settings
    key: str
    api: subprocess.Popen[bytes]
    size: int
    seed: int = 0
    figures: dict[tuple[str, str], list[dict[str, float]]] = field(default_factory=dict)

    def measure(self, kind: str, case: str, run: Run) -> None:
        """Run one case and keep its figures, with the CPU that the API and PostgreSQL spent on it."""
        before = self._cpu()
        found = run()
        after = self._cpu()
        each = 1e6 / found.events
        figures = {"events_per_s": found.events / found.seconds}
        latencies = {"p50_ms": found.p50_ms, "p99_ms": found.p99_ms}
        figures |= {name: value for name, value in latencies.items() if value is not None}
        database_s = after[1] - before[1] if found.database_cpu_s is None else found.database_cpu_s
        figures["database_cpu_us"] = database_s * each
        if case.startswith("api"):
            figures["api_cpu_us"] = (after[0] - before[0]) * each
        if found.client_cpu_s is not None:
            figures["client_cpu_us"] = found.client_cpu_s * each
        self.figures.setdefault((kind, case), []).append(figures)

    def median(self, kind: str, case: str, name: str = "events_per_s") -> float:
        """The median over the rounds."""
        return statistics.median(one[name] for one in self.figures[kind, case])

    def order(self, kind: str, per_body: int, **more: float) -> Order:
        """An order to the API, with events that nobody sent."""
        self.seed += 1
        share, connections = SMALL[per_body]
        number = max(2 * per_body, int(self.size * share))
        order = Order(
            port=self.settings.port,
            path="/v1/events",
            kind=kind,
            events=number,
            per_body=per_body,
            connections=min(connections, number // per_body),
            key=self.key,
            seed=self.seed,
        )
        return msgspec.structs.replace(order, **more)

    def memory_mb(self, name: str = "VmRSS") -> float:
        """Resident memory of the API: VmRSS now, VmHWM at most."""
        status = Path(f"/proc/{self.api.pid}/status").read_text(encoding="ascii")
        return int(status.split(f"{name}:")[1].split()[0]) / 1024

    def _cpu(self) -> tuple[float, float]:
        return _cpu_s(self.api.pid), sum(map(_cpu_s, _backends(self.settings.required_database_url)))


def cases(bench: Bench, kind: str, others: Sequence[Rival]) -> Iterator[tuple[str, Run]]:
    """The cases of one round, in an order that gives nobody the quiet minutes."""
    yield "bare", lambda: bare(bench, kind, once=True)
    yield "api 1000", lambda: send(bench.order(kind, 1_000))
    yield "copy", lambda: bare(bench, kind, once=False)
    yield "api 1000, 10 % repeated", lambda: send(bench.order(kind, 1_000, repeated=0.1))
    yield "api 100", lambda: send(bench.order(kind, 100))
    yield "api 1", lambda: send(bench.order(kind, 1))
    yield "api 1000 at half rate", lambda: send(bench.order(kind, 1_000, rate=bench.median(kind, "api 1000") / 2))
    for rival in others:
        yield rival.name, lambda rival=rival: send(_order_to(rival, bench, kind))  # type: ignore[misc]


def _order_to(rival: Rival, bench: Bench, kind: str) -> Order:
    order = bench.order(kind, 1_000, port=rival.port)
    return msgspec.structs.replace(order, path=rival.path, key="", lines=True, connections=2)


def report(bench: Bench, kind: str, printer: Printer) -> None:
    """One line per case."""
    best = bench.median(kind, "bare")
    for (which, case), rounds in bench.figures.items():
        if which == kind:
            medians = {name: round(bench.median(kind, case, name), 2) for name in rounds[0]}
            ratio = round(bench.median(kind, case) / best, 3)
            printer.line(case, type=kind, **medians, ratio_to_bare=ratio, rounds=len(rounds))
    printer.line("api memory", type=kind, peak_mb=round(bench.memory_mb("VmHWM")), now_mb=round(bench.memory_mb()))


def watch_memory(bench: Bench, printer: Printer, minutes: float) -> None:
    """Half the maximum rate for so long; the API's resident memory, minute by minute."""
    maximum = send(bench.order("api_request", 1_000))
    rate = maximum.events / maximum.seconds / 2
    began, pieces = time.monotonic(), []
    while time.monotonic() - began < minutes * 60:
        piece = send(bench.order("api_request", 1_000, rate=rate, events=max(1_000, int(rate * 15))))
        pieces.append(bench.memory_mb())
        printer.line("memory", minute=round((time.monotonic() - began) / 60, 1), rss_mb=round(pieces[-1], 1),
                     events_per_s=round(rate), p99_ms=round(piece.p99_ms or 0, 1))  # fmt: skip
    printer.line("memory", minutes=minutes, first_mb=round(pieces[0], 1), last_mb=round(pieces[-1], 1),
                 peak_mb=round(bench.memory_mb("VmHWM"), 1))  # fmt: skip


def send(order: Order) -> Measured:
    """The load generator's outcome; everything that it sent for the first time was accepted."""
    command = [sys.executable, "-m", "bench.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"go\n")
        process.stdin.flush()
        found = msgspec.json.decode(process.stdout.readline(), type=Outcome)
    fresh = found.events - int(order.per_body * order.repeated) * (found.events // order.per_body - 1)
    if found.accepted != fresh:
        raise SystemExit(f"{found.accepted} events were accepted, {fresh} were new")
    return Measured(
        events=found.events,
        seconds=found.seconds,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        client_cpu_s=found.client_cpu_s,
    )


def bare(bench: Bench, kind: str, *, once: bool) -> Measured:
    """Rows of the same events, ready as tuples, straight into the database, one connection."""
    bench.seed += 1
    made = events.bodies(kind, events=bench.size, per_body=BATCH, repeated=0.0, seed=bench.seed)
    batches, columns = asyncio.run(_rows(bench.settings, kind, list(made)))
    relation = RELATIONS[kind]
    with psycopg.connect(bench.settings.required_database_url) as connection:
        # The writer's own; here a session of its own.
        connection.execute(query(f"stage_{relation}").encode())
        connection.commit()
        cpu, database_cpu = time.process_time(), _cpu_s(connection.info.backend_pid)
        began = time.perf_counter()
        for rows in batches:
            (_once if once else _copy)(connection, relation, columns, rows)
            connection.commit()
        return Measured(
            events=bench.size // BATCH * BATCH,
            seconds=time.perf_counter() - began,
            client_cpu_s=time.process_time() - cpu,
            database_cpu_s=_cpu_s(connection.info.backend_pid) - database_cpu,
        )


_JSON = {"payment_required", "facilitator_response", "metadata"}
_DUPLICATE = {"payments": ", is_duplicate"}
Row = tuple[object, ...]


def _once(connection: psycopg.Connection[Row], relation: str, columns: dict[str, str], rows: list[Row]) -> None:
    names = ", ".join(columns)
    with connection.cursor().copy(f"COPY pg_temp.stage_{relation} ({names}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)
    more = _DUPLICATE.get(relation, "")
    values = ", ".join(f"{name}::jsonb" if name in _JSON else name for name in columns) + (", false" if more else "")
    done = connection.execute(
        f"INSERT INTO tollwatch.{relation} ({names}{more}) SELECT {values} FROM pg_temp.stage_{relation} "
        "ORDER BY project_id, ts, id ON CONFLICT DO NOTHING"
    )
    assert done.rowcount == len(rows)


def _copy(connection: psycopg.Connection[Row], relation: str, columns: dict[str, str], rows: list[Row]) -> None:
    more = _DUPLICATE.get(relation, "")
    names = ", ".join(columns) + more
    types = ["jsonb" if name in _JSON else kind for name, kind in columns.items()] + (["bool"] if more else [])
    json_at = [at for at, name in enumerate(columns) if name in _JSON]
    with connection.cursor().copy(f"COPY tollwatch.{relation} ({names}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(types)
        for row in rows:
            cells = [*row, False] if more else list(row)
            for at in json_at:
                if cells[at] is not None:
                    cells[at] = Jsonb(cells[at], str)
            copy.write_row(cells)


async def _rows(settings: Settings, kind: str, made: list[bytes]) -> tuple[list[list[Row]], dict[str, str]]:
    """The rows that ingest makes of these bodies, and their columns with the driver's types."""
    engine = create_engine(settings.required_database_url, PATIENT)
    directory = Directory(engine, settings)
    project_id = await directory.project_id(PROJECT)
    caller = Caller(project_id=project_id, project_name=PROJECT, key_id=None, scopes=frozenset(SCOPES))
    window, batches = Window.at(utc_now(), settings), []
    try:
        for octets in made:
            batch = await read_batch(Body(octets=octets, lines=False, max_batch=BATCH))
            facts = (await resolve(await make_drafts(batch, window, caller, directory), directory)).facts
            rows = getattr(facts, RELATIONS[kind])
            assert len(rows) == BATCH, batch.refused
            batches.append([msgspec.structs.astuple(row) for row in rows])
    finally:
        await engine.dispose()
    columns, types = COLUMNS[RELATIONS[kind]]
    return batches, dict(zip(columns[:-1], types[:-1], strict=True))


def _register(settings: Settings, key: str) -> None:
    """The agents and their wallets, as an operator does."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=READY_S)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for number in range(events.AGENTS):
        agent = f"/v1/agents/{events.agent_name(number)}"
        for path in (agent, f"{agent}/wallets/{events.wallet_address(number + 1)}"):
            connection.request("PUT", path, b"{}", headers)
            response = connection.getresponse()
            if response.status not in (200, 201):
                raise SystemExit(f"PUT {path}: {response.status} {response.read()[:300]!r}")
            response.read()
    connection.close()


@contextmanager
def api(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """One API process, without limits on keys: here they are not what is measured."""
    environ = os.environ | {
        "TOLLWATCH_DATABASE_URL": settings.required_database_url,
        "TOLLWATCH_PORT": str(settings.port),
        "TOLLWATCH_KEY_EVENTS_PER_S": "0",
        "TOLLWATCH_KEY_BYTES_PER_S": "0",
    }
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        command = [sys.executable, "-m", "cli", "api"]
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait(settings.port, process, Path(folder) / "log")
            yield process
        finally:
            process.terminate()
            process.wait(READY_S)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the API did not start: {log.read_text(errors='replace')[-500:]}")


def _backends(url: str) -> list[int]:
    """Processes of the database's sessions, where they are on this machine."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in rows if Path(f"/proc/{pid}/stat").exists()]


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
