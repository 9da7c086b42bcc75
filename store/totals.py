"""Totals that never fall: a base, plus the rollup buckets from the fold horizon on.

Folding adds buckets to the base that can change no more, and moves the horizon past them, in one transaction; readers
add both in one statement. Retention drops only buckets that were folded long before.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from store import rollups
from store.edition import Edition
from store.engine import writing
from store.named_sql import query
from store.settings import Settings

_FOLDS = {
    "payments": {"payments_hourly": "fold_payments"},
    "api_requests": {"requests_hourly": "fold_requests", "request_latency_hourly": "fold_latency"},
    "audit_events": {"audit_hourly": "fold_audit"},
}
"""Relation → its hourly rollups and the statements that fold them; one relation's horizons move together."""


async def fold(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Fold the buckets that no late event can reach any more. Returns the number of relations that moved."""
    horizon = rollups.floor_hour(datetime.now(UTC) - settings.rollup_window)
    return sum([await _fold(engine, edition, relation, horizon) for relation in _FOLDS])


async def _fold(engine: AsyncEngine, edition: Edition, relation: str, horizon: datetime) -> int:
    folds = _FOLDS[relation]
    async with writing(engine) as connection:
        folded_until = (await connection.execute(text(query("fold_state")), {"relation": relation})).scalar_one()
        # A bucket with a pending change would be added without it, and never again.
        exact = [await rollups.exact_until(connection, edition, rollup) for rollup in folds]
        until = min(horizon, *map(rollups.floor_hour, exact))
        if until <= folded_until:
            return 0
        for statement in folds.values():
            await connection.execute(text(query(statement)), {"from_ts": folded_until, "to_ts": until})
        await connection.execute(text(query("move_fold")), {"relation": relation, "to_ts": until})
    return 1
