"""The writer: one batch of facts, one transaction, exactly once.

    copy into the session's staging tables → lock heads in key order → move what is new, heads with it → commit

`write` returns after the commit. A batch that collides with another is tried again, a few times.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence

import msgspec
from psycopg import AsyncConnection as DriverConnection
from psycopg import sql
from sqlalchemy import Column, text
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import partitions
from store.deadlines import Deadlines
from store.engine import wrap_errors
from store.errors import DatabaseConflict
from store.facts import ApiRequest, AuditEvent, BalanceSample, Facts, Payment, QueueEvent, Stored
from store.identity import derived_uuid7
from store.named_sql import query
from store.tables import metadata

MAX_TRIES = 4
"""Tries of one batch that deadlocks or fails to serialize; in key order that takes another program's locks."""
RETRY_SECONDS = 0.05
"""Before the second try; doubled, with jitter, before each further one."""

_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "payments": Payment,
    "api_requests": ApiRequest,
    "audit_events": AuditEvent,
    "queue_events": QueueEvent,
    "balance_samples": BalanceSample,
}
_STAGED = "tollwatch.staged"
"""Key in a pooled connection's `info`: its session has the staging tables."""


class FactWriter:
    """Stores facts. Safe to share between tasks; each `write` takes one connection of the pool."""

    def __init__(self, engine: AsyncEngine, deadlines: Deadlines) -> None:
        self._engine = engine
        self._deadlines = deadlines

    async def write(self, facts: Facts) -> Stored:
        """Store a batch. Returns what was new; the rest was there already. Raises DatabaseError: nothing was stored."""
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return await self._write_once(facts)
            except DatabaseConflict:
                if attempt == MAX_TRIES:
                    raise
            await asyncio.sleep(RETRY_SECONDS * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 (jitter, no secret)
        raise AssertionError("unreachable")

    async def _write_once(self, facts: Facts) -> Stored:
        with wrap_errors():
            try:
                return await self._transaction(facts)
            except IntegrityError as exc:
                if not partitions.is_missing(exc):
                    raise
            await partitions.ensure_around(self._engine, facts)
            return await self._transaction(facts)

    async def _transaction(self, facts: Facts) -> Stored:
        async with self._engine.connect() as connection:
            await _ensure_staging(connection)
            new = await self._store(connection, facts)
            await connection.commit()
            return Stored(new=new)

    async def _store(self, connection: AsyncConnection, facts: Facts) -> dict[str, int]:
        """The work of one transaction. Returns the new rows of each relation that the batch has any of."""
        return {
            relation: await store_rows(connection, relation, rows) for relation, rows in facts.by_relation() if rows
        }


async def store_rows(connection: AsyncConnection, relation: str, rows: Sequence[msgspec.Struct]) -> int:
    """Stage one relation's rows and move what is new. Returns how many were new."""
    await stage(connection, relation, rows)
    return await move(connection, relation, len(rows))


async def move(connection: AsyncConnection, relation: str, staged: int) -> int:
    """Move what is staged into the relation, heads with it. Returns how many rows were new."""
    return await _STORE[relation](connection, staged)


async def _ensure_staging(connection: AsyncConnection) -> None:
    """Staging tables live as long as the session; they are committed first, so a failed batch cannot take them away."""
    info = (await connection.get_raw_connection()).info
    if _STAGED in info:
        return
    for relation in _STRUCTS:
        await connection.execute(text(query(f"stage_{relation}")))
    await connection.commit()
    info[_STAGED] = True


async def stage(connection: AsyncConnection, relation: str, rows: Iterable[msgspec.Struct]) -> None:
    """Copy rows into the session's staging table, which is empty at the start of every transaction."""
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, DriverConnection)
    columns, types = _COLUMNS[relation]
    statement = sql.SQL("COPY pg_temp.{} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(f"stage_{relation}"), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    as_row = _sample_row if relation == "balance_samples" else msgspec.structs.astuple
    async with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            await copy.write_row(as_row(row))


def _sample_row(row: msgspec.Struct) -> tuple[object, ...]:
    assert isinstance(row, BalanceSample)
    crossing = derived_uuid7(row.ts, "low_balance", row.project_id, row.wallet_id, row.asset_id)
    return (*msgspec.structs.astuple(row), crossing)


async def _store_payments(connection: AsyncConnection, staged: int) -> int:
    await connection.execute(text(query("lock_payment_heads")))
    stored = (await connection.execute(text(query("store_payments")))).one().stored
    if stored < staged:
        await connection.execute(text(query("drop_untold_payment_heads")))
    return int(stored)


async def _store_api_requests(connection: AsyncConnection, _staged: int) -> int:
    return (await connection.execute(text(query("store_api_requests")))).rowcount


async def _store_audit_events(connection: AsyncConnection, _staged: int) -> int:
    stored = (await connection.execute(text(query("store_audit_events")))).one()
    if stored.breakers:
        await connection.execute(text(query("resolve_breakers")))
    return int(stored.stored)


async def _store_queue_events(connection: AsyncConnection, _staged: int) -> int:
    return int((await connection.execute(text(query("store_queue_events")))).one().stored)


async def _store_balance_samples(connection: AsyncConnection, _staged: int) -> int:
    await connection.execute(text(query("lock_balance_heads")))
    return int((await connection.execute(text(query("store_balance_samples")))).one().stored)


_STORE = {
    "payments": _store_payments,
    "api_requests": _store_api_requests,
    "audit_events": _store_audit_events,
    "queue_events": _store_queue_events,
    "balance_samples": _store_balance_samples,
}

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
    return ([*names, "crossing_id"], [*types, "uuid"]) if relation == "balance_samples" else (names, types)


_COLUMNS = {relation: _columns(relation) for relation in _STRUCTS}
"""Per relation: column names in the order of the struct's fields, and the driver's names of their types."""
