"""Totals that never fall: a base, plus the rollup buckets from the fold horizon on.

Folding adds buckets to the base that can change no more, and moves the horizon past them, in one transaction; readers
add both in one statement. Retention drops only buckets that were folded long before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import rollups
from store.edition import Edition
from store.engine import writing
from store.errors import RebuildRefused
from store.horizons import RELATIONS, retention_of
from store.named_sql import query, rendered
from store.settings import Settings
from store.tables import metadata

_FOLDS = {
    "payments": {"payments_hourly": "fold_payments"},
    "api_requests": {"requests_hourly": "fold_requests", "request_latency_hourly": "fold_latency"},
    "audit_events": {"audit_hourly": "fold_audit"},
}
"""Relation → its hourly rollups and the statements that fold them; one relation's horizons move together."""
_TOTALS = {
    "payments": {"payment_totals": "payments_hourly"},
    "api_requests": {"request_totals": "requests_hourly", "latency_totals": "request_latency_hourly"},
    "audit_events": {"audit_totals": "audit_hourly"},
}
"""Relation → its totals, and the rollup that each adds up."""


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


async def rebuild(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Make the base what the buckets below the fold horizon add up to. Returns how many rows of it were wrong.

    Raises RebuildRefused: the base holds what no bucket does any more, or a bucket has a pending change. DatabaseError.
    """
    oldest_fact = max(retention_of(relation, settings) for relation in RELATIONS)
    async with writing(engine) as connection:
        values = {"oldest_fact": oldest_fact, "retain_rollups": settings.retain_rollups}
        if (await connection.execute(text(query("rollups_may_have_expired")), values)).scalar_one():
            raise RebuildRefused
    return sum([await _rebuild(engine, edition, relation) for relation in _TOTALS])


async def _rebuild(engine: AsyncEngine, edition: Edition, relation: str) -> int:
    wrong = 0
    async with writing(engine) as connection:
        folded_until = (await connection.execute(text(query("fold_state")), {"relation": relation})).scalar_one()
        for totals, rollup in _TOTALS[relation].items():
            if await rollups.exact_until(connection, edition, rollup) < folded_until:
                raise RebuildRefused(
                    f"{rollup} has changes that no refresh has seen yet; try again in a minute, or rebuild the rollups"
                )
            wrong += await _replace(connection, totals, rollup, folded_until)
    return wrong


async def _replace(connection: AsyncConnection, totals: str, rollup: str, folded_until: datetime) -> int:
    table = metadata.tables[f"tollwatch.{totals}"]
    keys = [column.name for column in table.primary_key]
    columns = [column.name for column in table.c if column.name not in keys]

    def listed(names: Sequence[str], form: str) -> str:
        return ", ".join(form.replace("?", name) for name in names)

    names = {
        "totals": totals,
        "rollup": rollup,
        "keys": listed(keys, "?"),
        "t_keys": listed(keys, "t.?"),
        "s_keys": listed(keys, "s.?"),
        "sums": listed(columns, "sum(?) AS ?"),
        "columns": listed(columns, "?"),
        "t_columns": listed(columns, "t.?"),
        "new_columns": listed(columns, "excluded.?"),
    }
    result = await connection.execute(text(rendered("rebuild_totals", **names)), {"folded_until": folded_until})
    return int(result.scalar_one())
