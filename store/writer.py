"""The writer: a group of batches, one transaction, exactly once.

    copy into the session's staging tables → lock heads in key order → move what is new, heads with it → commit

`write` returns after the commit. A group that collides with another is tried again, a few times.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

import msgspec
from psycopg import AsyncConnection as Driver
from psycopg import errors as pg
from psycopg import sql
from psycopg.types.string import BytesBinaryDumper
from psycopg.types.uuid import UUIDBinaryDumper
from sqlalchemy import Column, text
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import partitions
from store.deadlines import Deadlines
from store.engine import wrap_errors
from store.errors import DatabaseConflict
from store.facts import RELATIONS, ApiRequest, AuditEvent, BalanceSample, Facts, Payment, QueueEvent, Stored
from store.identity import derived_uuid7
from store.named_sql import query, rendered
from store.tables import metadata

MAX_TRIES = 4
"""Tries of one group that deadlocks or fails to serialize; in key order that takes another program's locks."""
RETRY_SECONDS = 0.05
"""Before the second try; doubled, with jitter, before each further one."""
MAX_GROUP = 2**15
"""Batches of one group: their numbers are smallint."""

_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "payments": Payment,
    "api_requests": ApiRequest,
    "audit_events": AuditEvent,
    "queue_events": QueueEvent,
    "balance_samples": BalanceSample,
}
_STAGED = "tollwatch.staged"
"""Key in a pooled connection's `info`: its session has the staging tables."""

_UNTOLD = -1
"""In place of a batch's number: payments that are not stored, but made a head or a settlement."""

News = dict[int, int]
"""Number of a batch in its group → how many of its rows were new."""


class _IdStoredBefore(DatabaseConflict):
    """An id was stored before, with another content, and what is made of payments now told of the new one."""


class FactWriter:
    """Stores facts. Safe to share between tasks; each `write` takes one connection of the pool."""

    def __init__(self, engine: AsyncEngine, deadlines: Deadlines) -> None:
        self._engine = engine
        self._deadlines = deadlines

    async def write(self, facts: Facts) -> Stored:
        """Store a batch. Returns what was new; the rest was there already. Raises DatabaseError: nothing was stored."""
        (stored,) = await self.write_group([facts])
        return stored

    async def write_group(self, group: Sequence[Facts]) -> list[Stored]:
        """Store batches in one transaction. Returns what was new of each; what two of them have is new in the first.

        Raises DatabaseError: nothing was stored of any.
        """
        assert len(group) <= MAX_GROUP
        sift = False
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return await self._write_once(group, sift=sift)
            except DatabaseConflict as exc:
                if attempt == MAX_TRIES:
                    raise
                sift = sift or isinstance(exc, _IdStoredBefore)
            await asyncio.sleep(RETRY_SECONDS * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 (jitter, no secret)
        raise AssertionError("unreachable")

    async def _write_once(self, group: Sequence[Facts], *, sift: bool) -> list[Stored]:
        with wrap_errors():
            try:
                return await self._transaction(group, sift=sift)
            except pg.CheckViolation as exc:
                if not partitions.is_missing(exc):
                    raise
            for facts in group:
                await partitions.ensure_around(self._engine, facts)
            return await self._transaction(group, sift=sift)

    async def _transaction(self, group: Sequence[Facts], *, sift: bool) -> list[Stored]:
        async with self._engine.connect() as connection:
            driver = await _driver(connection)
            try:
                await _ensure_staging(connection, group)
                new = await self._store(connection, group, sift=sift)
                await driver.commit()
            except pg.FeatureNotSupported as exc:
                # A plan of before a migration; a new session has none.
                await connection.invalidate()
                raise DatabaseConflict(str(exc)) from exc
            except BaseException:
                # The pool does not see what happens on the driver's connection.
                if driver.closed:
                    await connection.invalidate()
                raise
        return [
            Stored(new={relation: news.get(number, 0) for relation, news in new.items() if getattr(facts, relation)})
            for number, facts in enumerate(group)
        ]

    async def _store(self, connection: AsyncConnection, group: Sequence[Facts], *, sift: bool) -> dict[str, News]:
        """The work of one transaction. Returns what was new of each relation that the group has any of.

        `sift`: take out first what is stored already, which is quicker to find out by storing the rest.
        """
        new = {}
        for relation in RELATIONS:
            batches = [getattr(facts, relation) for facts in group]
            if any(batches):
                await stage(connection, relation, batches)
                if sift:
                    await forget_known(connection, relation)
                new[relation] = await move(connection, relation, len(batches))
        return new


async def _driver(connection: AsyncConnection) -> Driver:
    """The driver's own connection: its statements take a tenth of the time of SQLAlchemy's."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, Driver)
    return driver


async def _ensure_staging(connection: AsyncConnection, group: Sequence[Facts]) -> None:
    """Staging tables of what the group has any of, until the session ends: every commit empties all that there are.

    They are committed first, so a failed batch cannot take them away.
    """
    staged: set[str] = (await connection.get_raw_connection()).info.setdefault(_STAGED, set())
    missing = {name for facts in group for name, rows in facts.by_relation() if rows} - staged
    if not missing:
        return
    driver = await _driver(connection)
    # By type name the driver chooses a dumper in Python, for DB-API's Binary; this one is in C.
    driver.adapters.register_dumper(None, BytesBinaryDumper)
    driver.adapters.register_dumper(UUID, _UuidDumper)
    for relation in missing:
        await driver.execute(_statement(f"stage_{relation}"))
    await driver.commit()
    staged |= missing


async def stage(connection: AsyncConnection, relation: str, batches: Sequence[Sequence[msgspec.Struct]]) -> None:
    """Copy rows into the session's staging table, which is empty at the start of every transaction."""
    driver = await _driver(connection)
    columns, types = COLUMNS[relation]
    statement = sql.SQL("COPY pg_temp.{} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(f"stage_{relation}"), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    as_row = _sample_row if relation == "balance_samples" else msgspec.structs.astuple
    async with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for number, rows in enumerate(batches):
            batch = (number,)
            for row in rows:
                # As copy.write_row, without a coroutine per row: there is something to send every 32 KiB.
                full = copy.formatter.write_row(as_row(row) + batch)
                if full:
                    await copy.write(full)


async def forget_known(connection: AsyncConnection, relation: str) -> int:
    """Leave out of what is staged rows whose keys are stored, and repeats. Returns how many are left: all are new."""
    last = ("wallet_id", "asset_id", "ts") if relation == "balance_samples" else ("ts", "id")
    keys = ("project_id", *last)
    named = {f"{table}_keys": ", ".join(f"{table}.{key}" for key in keys) for table in "fs"}
    statement = rendered("forget_known", relation=relation, keys=named["s_keys"], **named)
    return int((await connection.execute(text(statement))).scalar_one())


async def move(connection: AsyncConnection, relation: str, batches: int = 1) -> News:
    """Move what is staged of so many batches into the relation, heads with it. Returns what was new of each batch."""
    return await _STORE[relation](await _driver(connection), batches)


class _UuidDumper(UUIDBinaryDumper):
    """The driver's own, without a call in Python."""

    dump = attrgetter("bytes")  # type: ignore[assignment]


def _sample_row(row: msgspec.Struct) -> tuple[object, ...]:
    assert isinstance(row, BalanceSample)
    crossing = derived_uuid7(row.ts, "low_balance", row.project_id, row.wallet_id, row.asset_id)
    return (*msgspec.structs.astuple(row), crossing)


async def _news(driver: Driver, name: str) -> News:
    """Run a statement that returns batch and stored."""
    return dict(await (await driver.execute(_statement(name))).fetchall())


async def _store_payments(driver: Driver, _batches: int) -> News:
    await driver.execute(_statement("find_by_index"))
    await driver.execute(_statement("make_payment_heads"))
    news = await _news(driver, "store_payments")
    if news.pop(_UNTOLD, 0):
        raise _IdStoredBefore("another writer stored events of these ids at the same moment; trying again helps")
    return news


async def _store_api_requests(driver: Driver, batches: int) -> News:
    insert = query("store_api_requests")
    if batches == 1:
        return {0: (await driver.execute(insert.encode())).rowcount}
    several = rendered("store_batches_of_api_requests", insert=insert).encode()
    return dict(await (await driver.execute(several)).fetchall())


async def _store_audit_events(driver: Driver, _batches: int) -> News:
    news: News = {}
    breakers = False
    for number, stored, moved in await (await driver.execute(_statement("store_audit_events"))).fetchall():
        news[number] = stored
        breakers = breakers or moved
    if breakers:
        await driver.execute(_statement("resolve_breakers"))
    return news


async def _store_queue_events(driver: Driver, _batches: int) -> News:
    return await _news(driver, "store_queue_events")


async def _store_balance_samples(driver: Driver, _batches: int) -> News:
    await driver.execute(_statement("lock_balance_heads"))
    return await _news(driver, "store_balance_samples")


_STORE = {
    "payments": _store_payments,
    "api_requests": _store_api_requests,
    "audit_events": _store_audit_events,
    "queue_events": _store_queue_events,
    "balance_samples": _store_balance_samples,
}


def _statement(name: str) -> bytes:
    return query(name).encode()


_DRIVER_TYPES: dict[type, str] = {
    sqltypes.SmallInteger: "int2",
    sqltypes.BigInteger: "int8",
    sqltypes.Integer: "int4",
    sqltypes.Boolean: "bool",
    sqltypes.Double: "float8",
    sqltypes.Text: "text",
    sqltypes.Uuid: "uuid",
    sqltypes.LargeBinary: "bytea",
    sqltypes.DateTime: "timestamptz",
    JSONB: "text",
}


def _driver_type(column: Column[object]) -> str:
    return next(name for kind, name in _DRIVER_TYPES.items() if isinstance(column.type, kind))


def _columns(relation: str) -> tuple[Sequence[str], Sequence[str]]:
    table = metadata.tables[f"tollwatch.{relation}"]
    names = list(_STRUCTS[relation].__struct_fields__)
    types = [_driver_type(table.c[name]) for name in names]
    if relation == "balance_samples":
        names, types = [*names, "crossing_id"], [*types, "uuid"]
    return [*names, "batch"], [*types, "int2"]


COLUMNS = {relation: _columns(relation) for relation in _STRUCTS}
"""Per relation: staged columns in the order of the struct's fields, and the driver's names of their types."""
