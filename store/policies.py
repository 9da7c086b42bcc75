"""Policies in force: made at every migration, again when a horizon changed. Nothing to make on the own-rollup editions,
where the collector's jobs do the same work from the same settings.
"""

from __future__ import annotations

import json

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store import horizons
from store.edition import Edition
from store.named_sql import query
from store.settings import Settings
from store.tables import SCHEMA


async def apply(connection: AsyncConnection, settings: Settings, edition: Edition) -> bool:
    """Make TimescaleDB's policies agree with the settings. Returns whether anything changed."""
    wanted = horizons.as_record(settings)
    made: dict[str, bool] = {}
    if edition is Edition.COMMUNITY:
        # An older revision, which only tests stop at, lacks some; one that went down and up again has some without.
        rows = await connection.execute(text(query("continuous_aggregates")))
        made = {row.view_name: row.is_refreshed for row in rows}
    recorded = (await connection.execute(text(query("recorded_horizons")))).scalar_one()
    if recorded == wanted and all(made.values()):
        return False
    if edition is Edition.COMMUNITY:
        for relation in horizons.RELATIONS:
            await _relation(connection, relation, settings)
        for rollup in horizons.ROLLUPS:
            if rollup.name in made:
                await _rollup(connection, rollup, settings)
    await _run(connection, "record_horizons", horizons=json.dumps(wanted))
    return True


async def _relation(connection: AsyncConnection, relation: horizons.Relation, settings: Settings) -> None:
    name = f"{SCHEMA}.{relation.name}"
    await _run(connection, "remove_columnstore_policy", relation=name)
    await _run(connection, "add_columnstore_policy", relation=name, after=settings.columnstore_after)
    await _run(connection, "remove_retention_policy", relation=name)
    await _run(connection, "add_retention_policy", relation=name, drop_after=horizons.retention_of(relation, settings))


async def _rollup(connection: AsyncConnection, rollup: horizons.Rollup, settings: Settings) -> None:
    name = f"{SCHEMA}.{rollup.name}"
    await _run(connection, "remove_rollup_policy", rollup=name)
    await _run(
        connection,
        "add_rollup_policy",
        rollup=name,
        start_offset=settings.rollup_window,
        end_offset=rollup.bucket,
        schedule=settings.rollup_interval,
    )
    await _run(connection, "remove_retention_policy", relation=name)
    await _run(connection, "add_retention_policy", relation=name, drop_after=settings.retain_rollups)


async def _run(connection: AsyncConnection, name: str, **values: object) -> None:
    await connection.execute(text(query(name)), values)
