"""Retention of facts where TimescaleDB does not do it: drop whole partitions or chunks, never single rows."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import rollups
from store.edition import Edition
from store.engine import wrap_errors
from store.horizons import RELATIONS, retention_of
from store.named_sql import query
from store.settings import Settings
from store.tables import INTERNAL_SCHEMA, SCHEMA


async def expire(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Drop what every retention allows. Returns the number of partitions or chunks dropped; 0 on community.

    A partition is dropped when all of its range is older than the retention. A run that is interrupted between detach
    and drop is finished by the next one. Raises DatabaseError.
    """
    if edition is Edition.COMMUNITY:
        return 0
    await rollups.expire(engine, edition, settings)
    dropped = 0
    with wrap_errors():
        async with engine.connect() as connection:
            # DETACH … CONCURRENTLY refuses to run inside a transaction.
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for relation in RELATIONS:
                before = datetime.now(UTC) - retention_of(relation, settings)
                drop = _drop_chunks if edition.has_hypertables else _drop_partitions
                dropped += await drop(autocommit, relation.name, before)
    return dropped


async def _drop_chunks(connection: AsyncConnection, relation: str, before: datetime) -> int:
    found = await connection.execute(text(query("drop_chunks")), {"relation": f"{SCHEMA}.{relation}", "before": before})
    return len(found.all())


async def _drop_partitions(connection: AsyncConnection, relation: str, before: datetime) -> int:
    for name in await _names(connection, "half_detached", relation):
        await connection.execute(
            text(f"ALTER TABLE {SCHEMA}.{relation} DETACH PARTITION {INTERNAL_SCHEMA}.{name} FINALIZE")
        )
    expired = await connection.execute(text(query("partitions_of")), {"relation": relation})
    for row in expired.all():
        if row.upper_ts <= before:
            await connection.execute(
                text(f"ALTER TABLE {SCHEMA}.{relation} DETACH PARTITION {INTERNAL_SCHEMA}.{row.name} CONCURRENTLY")
            )
    orphans = await _names(connection, "orphaned_partitions", relation)
    for name in orphans:
        await connection.execute(text(f"DROP TABLE {INTERNAL_SCHEMA}.{name}"))
    return len(orphans)


async def _names(connection: AsyncConnection, name: str, relation: str) -> list[str]:
    return list((await connection.execute(text(query(name)), {"relation": relation})).scalars())
