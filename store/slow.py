"""The statements that take the database's time, by the names that they have in `sql/` (`store.named_sql.query`)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.engine import reading
from store.errors import StatisticsMissing
from store.named_sql import query, rendered


@dataclass(frozen=True, kw_only=True)
class SlowStatement:
    """One statement since the statistics were reset. name None: not one of ours; `text` is its beginning.

    total_ms, mean_ms, max_ms: execution; rows: returned or changed, in all; share: of the time of all, 0 to 1.
    """

    name: str | None
    text: str
    calls: int
    total_ms: float
    mean_ms: float
    max_ms: float
    rows: int
    share: float


async def read(engine: AsyncEngine, *, limit: int) -> list[SlowStatement]:
    """The slowest in all first. Raises StatisticsMissing: what the server lacks and what to do; DatabaseError."""
    async with reading(engine) as connection:
        offer = (await connection.execute(text(query("statistics_offer")))).one()
        _check(offer)
        schema = _quoted(connection, offer.schema)
        found = await connection.execute(text(rendered("slow_statements", schema=schema)), {"limit": limit})
        return [SlowStatement(**row) for row in found.mappings()]


def _check(offer: Row[tuple[object, ...]]) -> None:
    if not offer.is_loaded:
        where = "" if offer.is_available else " (it comes with PostgreSQL's contrib package, which this server lacks)"
        raise StatisticsMissing(
            f"the server does not load pg_stat_statements{where}: add it to shared_preload_libraries, restart "
            "PostgreSQL and run CREATE EXTENSION pg_stat_statements in this database"
        )
    if offer.schema is None:
        raise StatisticsMissing(
            "pg_stat_statements is loaded but not in this database: run CREATE EXTENSION pg_stat_statements in it"
        )
    if not offer.sees_all:
        raise StatisticsMissing(
            "this role does not see other roles' statements: run GRANT pg_read_all_stats TO it, as a superuser"
        )


def _quoted(connection: AsyncConnection, schema: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(schema)
