"""What every bench shares: its lines, the database that it runs on, percentiles, a project of its own."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from store import edition as editions
from store import migrate
from store.deadlines import Deadlines
from store.edition import Edition
from store.embedded import PostgresServer, bundled_bin_dir
from store.engine import create_engine, reading
from store.errors import SandboxRefused
from store.named_sql import query
from store.settings import Settings

PROJECT = "bench"
"""All that a bench makes lives in this project, and no bench runs beside another one."""
PATIENT = replace(Deadlines(), read_statement=3600.0, migration_statement=600.0)
"""Making tens of millions of rows takes longer than any read may."""


@dataclass(frozen=True, kw_only=True)
class Printer:
    """Writes the lines of one bench."""

    bench: str
    edition: str
    size: int

    def line(self, case: str, **figures: object) -> None:
        """One line; names of figures carry their unit. `load_1min`: how busy the machine was, itself included."""
        told = {"bench": self.bench, "case": case, "edition": self.edition, "size_rows": self.size}
        sys.stdout.write(json.dumps(told | figures | {"load_1min": round(os.getloadavg()[0], 1)}) + "\n")
        sys.stdout.flush()


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of them do not exceed, interpolated; of a single one, itself."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@contextmanager
def database(environ: dict[str, str]) -> Iterator[Settings]:
    """Settings with a database: that of TOLLWATCH_DATABASE_URL, else an embedded server of the benches' own."""
    settings = Settings.from_env(environ)
    if settings.database_url is not None:
        yield settings
        return
    server = PostgresServer(settings.home / "bench", bin_dir=bundled_bin_dir(), deadlines=Deadlines())
    server.start()
    try:
        yield replace(settings, database_url=server.url())
    finally:
        server.stop()


async def prepare(settings: Settings) -> Edition:
    """Migrate, and refuse a database with anyone else's project in it. Raises SandboxRefused and StartRefused."""
    engine = patient_engine(settings)
    try:
        async with reading(engine) as connection:
            if (await connection.execute(text(query("schema_exists")))).scalar_one():
                other = await connection.execute(text(query("other_project")), {"name": PROJECT})
                if (name := other.scalar_one_or_none()) is not None:
                    raise SandboxRefused(f"the database holds project {name!r}; a bench needs a database of its own")
        await migrate.upgrade(settings, PATIENT)
        async with reading(engine) as connection:
            found = await editions.recorded(connection)
    finally:
        await engine.dispose()
    assert found is not None
    return found


def patient_engine(settings: Settings) -> AsyncEngine:
    """An engine whose statements may take an hour."""
    return create_engine(settings.required_database_url, PATIENT, pool_size=4, statement=PATIENT.read_statement)
