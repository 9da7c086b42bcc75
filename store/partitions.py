"""Partitions of the plain edition: ranges of `ts`, made ahead. TimescaleDB makes its own chunks."""

from __future__ import annotations

from datetime import UTC, datetime

from psycopg import errors as pg
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from store.edition import Edition
from store.engine import writing
from store.facts import Facts
from store.horizons import RELATIONS
from store.named_sql import query
from store.settings import Settings


async def ensure_ahead(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Make those from the oldest acceptable event to `partitions_ahead` from now. Returns how many were new."""
    if edition.has_hypertables:
        return 0
    now = datetime.now(UTC)
    oldest = now - settings.late_window - settings.spool_max_age
    return sum([await ensure(engine, relation.name, oldest, now + settings.partitions_ahead) for relation in RELATIONS])


async def ensure_around(engine: AsyncEngine, facts: Facts) -> None:
    """Make the partitions that a batch lacks: nobody made them ahead, or it is a backfill."""
    for relation, rows in facts.by_relation():
        moments: list[datetime] = [row.ts for row in rows]  # type: ignore[attr-defined]
        if moments:
            await ensure(engine, relation, min(moments), max(moments))
            if relation == "balance_samples":  # one that crosses its threshold is also an event
                await ensure(engine, "audit_events", min(moments), max(moments))


async def ensure(engine: AsyncEngine, relation: str, from_ts: datetime, to_ts: datetime) -> int:
    """Make one relation's partitions for a range. Raises DatabaseError."""
    step = next(known.chunk_interval for known in RELATIONS if known.name == relation)
    async with writing(engine) as connection:
        made = await connection.execute(
            text(query("ensure_partitions")), {"relation": relation, "step": step, "from_ts": from_ts, "to_ts": to_ts}
        )
        return int(made.scalar_one())


def is_missing(exc: IntegrityError | pg.CheckViolation) -> bool:
    """Whether a row found no partition: a check violation of no named constraint."""
    cause = exc.orig if isinstance(exc, IntegrityError) else exc
    return isinstance(cause, pg.CheckViolation) and cause.diag.constraint_name is None
