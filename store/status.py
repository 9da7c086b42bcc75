"""The state of the database, for its operator: every relation and rollup, and the jobs that look after them.

Nothing is recorded for it but how the collector's jobs ended (`store.job_runs`). The cost is bounded by the number of
partitions: rows are counted where the tables are small and estimated elsewhere, times are those of one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import edition as editions
from store.edition import Edition
from store.engine import reading
from store.errors import SchemaMismatch
from store.horizons import RELATIONS, ROLLUPS, Rollup
from store.named_sql import query, rendered
from store.rollups import exact_until, floor
from store.tables import INTERNAL_SCHEMA, SCHEMA

COUNTED_BYTES = 32 * 1024**2
"""Relations up to this size are counted; of larger ones the rows are an estimate."""

_NEVER = datetime.max.replace(tzinfo=UTC)
FACTS = "facts"
ROLLUP = "rollup"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The newest failure of a job, which may have run well since."""

    job: str
    at: datetime
    message: str


@dataclass(frozen=True, kw_only=True)
class Due:
    """A job and when it runs next; None: its scheduler has not said."""

    job: str
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job. runs_in: collector or timescaledb. relation None: it is about many. is_scheduled False: switched off.

    outcome of the newest run: ok, failed or timeout; None: it never ran.
    """

    name: str
    runs_in: str
    relation: str | None
    is_scheduled: bool
    outcome: str | None
    ran_at: datetime | None
    succeeded_at: datetime | None
    next_at: datetime | None
    last_failure: Failure | None


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One relation of facts, or one rollup: what of it is stored, in bytes and rows.

    `rows` is exact when `rows_are` says so, else an estimate. Of a rollup these are the materialised rows: from the
    watermark on, buckets are aggregated when they are read. watermark, dirty_buckets, exact_until: rollups only.
    """

    name: str
    kind: str
    rows: int
    rows_are: str
    heap_bytes: int
    index_bytes: int
    columnstore_bytes: int
    partitions: int
    columnstore_partitions: int
    oldest: datetime | None
    newest: datetime | None
    watermark: datetime | None = None
    dirty_buckets: int | None = None
    exact_until: datetime | None = None
    next_job: Due | None
    last_failure: Failure | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """All of it, at one moment."""

    at: datetime
    edition: str
    postgres: str
    timescaledb: str | None
    database: str
    bytes: int
    relations: list[Relation]
    jobs: list[Job]


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What is on disk of one relation."""

    tables: Sequence[tuple[int, str]]
    heap_bytes: int
    index_bytes: int
    columnstore_bytes: int
    columnstore_partitions: int
    estimate: int
    filled: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far a rollup is; `place` is the table that holds it."""

    place: str
    watermark: datetime | None
    dirty: int


async def read(engine: AsyncEngine, *, counted_bytes: int = COUNTED_BYTES) -> Status:
    """Read it in one snapshot. Raises SchemaMismatch where there is no schema; DatabaseError."""
    async with reading(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        edition = await editions.recorded(connection)
        if edition is None:
            raise SchemaMismatch("the database has no Tollwatch schema yet; run `tollwatch migrate`")
        jobs = await read_jobs(connection, edition)
        relations = [
            await _facts(connection, edition, relation.name, jobs, counted_bytes=counted_bytes)
            for relation in RELATIONS
        ]
        progress = await _progress(connection, edition)
        relations += [
            await _rollup(connection, edition, rollup, progress[rollup.name], jobs, counted_bytes=counted_bytes)
            for rollup in ROLLUPS
        ]
        database = (await connection.execute(text(query("status_database")))).one()
        now = (await connection.execute(text(query("metrics_now")))).scalar_one()
    return Status(
        at=now,
        edition=edition.value,
        postgres=database.postgres,
        timescaledb=database.timescaledb,
        database=database.name,
        bytes=database.bytes,
        relations=relations,
        jobs=jobs,
    )


async def read_jobs(connection: AsyncConnection, edition: Edition) -> list[Job]:
    """The collector's jobs, as far as they ever ran; on community TimescaleDB's too."""
    runs = (await connection.execute(text(query("status_job_runs")))).all()
    jobs = [
        Job(
            name=row.job,
            runs_in="collector",
            relation=None,
            is_scheduled=True,
            outcome=row.outcome,
            ran_at=row.ended_at,
            succeeded_at=row.succeeded_at,
            next_at=row.next_at,
            last_failure=_failure(row.job, row.failed_at, row.failure),
        )
        for row in runs
    ]
    return jobs + (await _native_jobs(connection) if edition is Edition.COMMUNITY else [])


_PROCEDURES = {
    "policy_refresh_continuous_aggregate": "refresh",
    "policy_compression": "columnstore",
    "policy_retention": "retention",
}
_NATIVE_OUTCOMES = {"Success": "ok", "Failed": "failed"}


async def _native_jobs(connection: AsyncConnection) -> list[Job]:
    jobs = []
    for row in await connection.execute(text(query("status_native_jobs"))):
        name = _PROCEDURES.get(row.proc_name, row.proc_name)
        jobs.append(
            Job(
                name=name,
                runs_in="timescaledb",
                relation=row.relation,
                is_scheduled=row.scheduled,
                outcome=_NATIVE_OUTCOMES.get(row.last_run_status),
                ran_at=row.last_run_started_at,
                succeeded_at=row.succeeded_at,
                next_at=row.next_at if row.scheduled else None,
                last_failure=_failure(name, row.failed_at, row.failure),
            )
        )
    return jobs


def _failure(job: str, at: datetime | None, message: str | None) -> Failure | None:
    return None if at is None else Failure(job=job, at=at, message=message or "")


async def _facts(
    connection: AsyncConnection, edition: Edition, name: str, jobs: Sequence[Job], *, counted_bytes: int
) -> Relation:
    place = f"{SCHEMA}.{name}"
    stored = await _stored(connection, edition, await _leaves(connection, place, edition))
    due, failure = _looked_after(jobs, name, _collector_jobs(edition, FACTS))
    known = {"name": name, "kind": FACTS, "next_job": due, "last_failure": failure}
    return await _relation(connection, stored, known, place=place, time="ts", counted_bytes=counted_bytes)


async def _rollup(
    connection: AsyncConnection,
    edition: Edition,
    rollup: Rollup,
    progress: _Progress,
    jobs: Sequence[Job],
    *,
    counted_bytes: int,
) -> Relation:
    find = _table if edition.has_own_rollups else partial(_leaves, edition=edition)
    stored = await _stored(connection, edition, await find(connection, place=progress.place))
    due, failure = _looked_after(jobs, rollup.name, _collector_jobs(edition, ROLLUP))
    known = {
        "name": rollup.name,
        "kind": ROLLUP,
        "watermark": progress.watermark,
        "dirty_buckets": progress.dirty,
        "exact_until": await exact_until(connection, edition, rollup.name),
        "next_job": due,
        "last_failure": failure,
    }
    return await _relation(connection, stored, known, place=progress.place, time="bucket", counted_bytes=counted_bytes)


async def _relation(
    connection: AsyncConnection,
    stored: _Stored,
    known: Mapping[str, Any],
    *,
    place: str,
    time: str,
    counted_bytes: int,
) -> Relation:
    """Rows and times of what is stored, with what is known of it already."""
    is_small = stored.heap_bytes + stored.columnstore_bytes <= counted_bytes
    if is_small:
        rows = int((await connection.execute(text(rendered("status_rows", table=place)))).scalar_one())
    else:
        rows = stored.estimate
    return Relation(
        rows=rows,
        rows_are="exact" if is_small else "estimate",
        heap_bytes=stored.heap_bytes,
        index_bytes=stored.index_bytes,
        columnstore_bytes=stored.columnstore_bytes,
        columnstore_partitions=stored.columnstore_partitions,
        partitions=sum(name != place for _, name in stored.tables),
        oldest=await _extreme(connection, stored.filled, time, "oldest"),
        newest=await _extreme(connection, stored.filled[::-1], time, "newest"),
        **known,
    )


async def _extreme(connection: AsyncConnection, tables: Iterable[str], time: str, which: str) -> datetime | None:
    """The first partition that has rows knows."""
    for table in tables:
        row = (await connection.execute(text(rendered("status_extremes", table=table, time=time)))).one()
        found: datetime | None = getattr(row, which)
        if found is not None:
            return found
    return None


async def _leaves(connection: AsyncConnection, place: str, edition: Edition) -> list[tuple[int, str]]:
    """Partitions or chunks, oldest first: (oid, name)."""
    if edition.has_hypertables:
        schema, _, name = place.partition(".")
        found = await connection.execute(text(query("status_chunks")), {"schema": schema, "name": name})
    else:
        found = await connection.execute(text(query("status_partitions")), {"relation": place})
    return [(row.oid, row.name) for row in found]


async def _table(connection: AsyncConnection, place: str) -> list[tuple[int, str]]:
    found = await connection.execute(text(query("status_table")), {"relation": place})
    return [(row.oid, row.name) for row in found]


async def _stored(connection: AsyncConnection, edition: Edition, tables: list[tuple[int, str]]) -> _Stored:
    oids = {"oids": [oid for oid, _ in tables]}
    sizes = {row.oid: row for row in await connection.execute(text(query("status_sizes")), oids)}
    columns = {}
    if edition is Edition.COMMUNITY:
        columns = {row.oid: row for row in await connection.execute(text(query("status_columnstore")), oids)}
    return _Stored(
        tables=tables,
        heap_bytes=sum(row.heap_bytes for row in sizes.values()),
        index_bytes=sum(row.index_bytes for row in sizes.values()),
        columnstore_bytes=sum(row.columnstore_bytes for row in columns.values()),
        columnstore_partitions=len(columns),
        estimate=sum(_estimate(row, columns.get(oid)) for oid, row in sizes.items()),
        filled=[name for oid, name in tables if oid in columns or (oid in sizes and sizes[oid].main_bytes > 0)],
    )


def _estimate(sizes: Row[Any], columns: Row[Any] | None) -> int:
    """Rows of one table. A chunk in columnstore has an emptied heap, whose counter may still tell the rows moved."""
    if columns is None:
        return int(max(sizes.counted, sizes.analyzed))
    moved = int(columns.columnstore_rows)
    if sizes.main_bytes == 0:
        return moved
    return int(sizes.counted if sizes.counted >= moved else sizes.counted + moved)


async def _progress(connection: AsyncConnection, edition: Edition) -> dict[str, _Progress]:
    if not edition.has_own_rollups:
        found = await connection.execute(text(query("status_continuous")))
        return {
            row.rollup: _Progress(place=f"{row.schema}.{row.name}", watermark=row.watermark, dirty=row.dirty)
            for row in found
        }
    states = {row.relation: row for row in await connection.execute(text(query("status_own_rollups")))}
    return {
        rollup.name: _own_progress(rollup, states[rollup.relation].watermark, states[rollup.relation].dirty)
        for rollup in ROLLUPS
    }


def _own_progress(rollup: Rollup, watermark: datetime, hours: Sequence[datetime]) -> _Progress:
    mark = floor(watermark, rollup.bucket)
    buckets = {floor(hour, rollup.bucket) for hour in hours}
    return _Progress(
        place=f"{INTERNAL_SCHEMA}.{rollup.name}", watermark=mark, dirty=sum(bucket < mark for bucket in buckets)
    )


def _collector_jobs(edition: Edition, kind: str) -> tuple[str, ...]:
    """Which of the collector's jobs look after relations of a kind, on an edition."""
    if edition is Edition.COMMUNITY:
        return ()
    if kind == ROLLUP:
        return ("rollups", "retention")
    return ("retention",) if edition.has_hypertables else ("partitions", "retention")


def _looked_after(jobs: Sequence[Job], relation: str, shared: Sequence[str]) -> tuple[Due | None, Failure | None]:
    """Which of a relation's jobs is next, and which failed last."""
    mine = [job for job in jobs if job.relation == relation or (job.relation is None and job.name in shared)]
    scheduled = [job for job in mine if job.is_scheduled]
    due = min(scheduled, key=lambda job: job.next_at or _NEVER, default=None)
    failures = [job.last_failure for job in mine if job.last_failure is not None]
    return (
        None if due is None else Due(job=due.name, at=due.next_at),
        max(failures, key=lambda failure: failure.at, default=None),
    )
