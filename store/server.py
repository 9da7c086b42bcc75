"""The server behind the database: whether it was told what Tollwatch needs, and how it is.

What loses or misplaces rows is refused (`check`). The rest are warnings: what only slows, what leaves work undone (a
gauge and `exact_until` tell it), and an operator's choice about durability. A server without background workers is
among them: its live tails are exact, and somebody may call `run_job`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.edition import Edition
from store.engine import reading
from store.errors import StartRefused
from store.horizons import RELATIONS, ROLLUPS
from store.named_sql import query

WORKERS = 2 + len(ROLLUPS)
"""Background workers that keep no job waiting: TimescaleDB's launcher, this database's scheduler, every refresh."""
OTHER_WORKERS = 3
"""Worker processes beside those of TimescaleDB's jobs and of parallel queries, as its documentation counts them."""
NATIVE_JOBS = 2 * (len(RELATIONS) + len(ROLLUPS))
"""Of each relation columnstore and retention, of each rollup refresh and retention."""
SIZE_SECONDS = 60.0
"""How long a measured size of the database is told again: measuring looks at every file."""


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """One thing to put right: the setting, and in a sentence what it leads to and what to do."""

    setting: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class ServerFigures:
    """How the server is; headroom (plain) in seconds by relation, jobs (community) by state, unfit as 0 or 1."""

    connections: int
    max_connections: int
    oldest_transaction_s: float
    deadlocks: int
    temp_bytes: int
    bytes: int
    headroom: Mapping[str, float]
    jobs: Mapping[str, int]
    unfit: Mapping[str, int]


async def check(connection: AsyncConnection, edition: Edition) -> list[Unfit]:
    """What the server should be told otherwise. Raises StartRefused where it would lose or misplace rows."""
    found = await _settings(connection)
    if found.is_restoring:
        raise StartRefused(
            "TimescaleDB is in restore mode, in which new rows bypass their chunks; when the restore is complete run "
            "SELECT timescaledb_post_restore() in this database"
        )
    unfit = _durability(found) + (_workers(found) if edition is Edition.COMMUNITY else [])
    if edition is Edition.COMMUNITY:
        unfit += _jobs(await native_jobs(connection))
    return unfit


async def _settings(connection: AsyncConnection) -> Row[Any]:
    return (await connection.execute(text(query("server_settings")))).one()


def _durability(found: Row[Any]) -> list[Unfit]:
    names = ("fsync", "full_page_writes", "synchronous_commit")
    problem = "is off: a crash of the machine can lose events that were acknowledged; set it to on"
    return [Unfit(setting=name, problem=f"{name} {problem}") for name in names if not getattr(found, name)]


def _workers(found: Row[Any]) -> list[Unfit]:
    unfit = []
    have = found.background_workers or 0
    if have < WORKERS:
        effect = "no job ever runs" if have == 0 else "refreshes wait for each other"
        problem = f"timescaledb.max_background_workers is {have}, so {effect}; set it to {WORKERS} or more"
        unfit.append(Unfit(setting="timescaledb.max_background_workers", problem=problem))
    need = have + found.max_parallel_workers + OTHER_WORKERS
    if found.max_worker_processes < need:
        problem = (
            f"max_worker_processes is {found.max_worker_processes}, so jobs and parallel queries starve each other; "
            f"set it to {need} or more (timescaledb.max_background_workers + max_parallel_workers + {OTHER_WORKERS})"
        )
        unfit.append(Unfit(setting="max_worker_processes", problem=problem))
    return unfit


def _jobs(states: Mapping[str, int]) -> list[Unfit]:
    wrong = ", ".join(f"{count} {state}" for state, count in states.items() if count and state != "ok")
    problem = f"TimescaleDB's jobs: {wrong}; `tollwatch db status` says which and why"
    return [Unfit(setting=JOBS, problem=problem)] if wrong else []


JOBS = "jobs"
_SETTINGS = {
    edition: (
        *("fsync", "full_page_writes", "synchronous_commit"),
        *(("timescaledb.max_background_workers", "max_worker_processes") if edition is Edition.COMMUNITY else ()),
    )
    for edition in Edition
}


async def native_jobs(connection: AsyncConnection) -> dict[str, int]:
    """How many of TimescaleDB's jobs are in each state, also `missing`: those that a migration made and are gone."""
    found = await connection.execute(text(query("native_jobs")))
    states = {"ok": 0, "failing": 0, "paused": 0, "overdue": 0} | {row.state: row.jobs for row in found}
    return states | {"missing": max(0, NATIVE_JOBS - sum(states.values()))}


async def headroom(connection: AsyncConnection) -> dict[str, float]:
    """Seconds that each relation's partitions last (plain)."""
    relations = {"relations": [relation.name for relation in RELATIONS]}
    found = await connection.execute(text(query("partition_headroom")), relations)
    return {row.relation: row.headroom_s for row in found}


class ServerReader:
    """Reads the server's figures; remembers the database's size for a minute."""

    def __init__(self, engine: AsyncEngine, edition: Edition) -> None:
        self._engine = engine
        self._edition = edition
        self._bytes = 0
        self._measured: float | None = None

    async def read(self) -> ServerFigures:
        """Read them in one transaction. Raises DatabaseError."""
        async with reading(self._engine) as connection:
            found = (await connection.execute(text(query("server_figures")))).mappings().one()
            settings = await _settings(connection)
            is_community = self._edition is Edition.COMMUNITY
            unfit = {one.setting for one in _durability(settings) + (_workers(settings) if is_community else [])}
            return ServerFigures(
                **found,
                bytes=await self._size(connection),
                headroom=await headroom(connection) if self._edition is Edition.PLAIN else {},
                jobs=await native_jobs(connection) if is_community else {},
                unfit={name: int(name in unfit) for name in _SETTINGS[self._edition]},
            )

    async def _size(self, connection: AsyncConnection) -> int:
        now = time.monotonic()
        if self._measured is None or now - self._measured >= SIZE_SECONDS:
            self._bytes = int((await connection.execute(text(query("database_bytes")))).scalar_one())
            self._measured = now
        return self._bytes
