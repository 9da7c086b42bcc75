"""Rollups: hourly aggregates with a live tail, and how far they are exact.

On community TimescaleDB refreshes continuous aggregates by policy. Elsewhere `refresh` does: inserts log the hours that
they touch; a run takes the logged hours below the watermark, aggregates each again, and moves the watermark, in one
transaction. Hours from the watermark on are aggregated when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.edition import Edition
from store.engine import wrap_errors, writing
from store.horizons import DAY, HOUR, RELATIONS, ROLLUPS, Rollup, retention_of
from store.identity import EPOCH
from store.named_sql import query, rollup_select
from store.settings import Settings

BUCKETS_PER_RUN = 48
"""Buckets that one transaction aggregates again; what is left stays logged for the next run."""


def floor_hour(moment: datetime) -> datetime:
    """The start of the hour, UTC."""
    return floor(moment, HOUR)


async def refresh(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Bring every own rollup up to date. Returns the number of hours aggregated again; 0 on community."""
    if not edition.has_own_rollups:
        return 0
    done = 0
    for relation in RELATIONS:
        rollups = [rollup for rollup in ROLLUPS if rollup.relation == relation.name]
        if not rollups:
            continue
        oldest = datetime.now(UTC) - retention_of(relation, settings)
        while (hours := await _refresh_relation(engine, edition, rollups, oldest)) > 0:
            done += hours
            if hours < BUCKETS_PER_RUN:
                break
    return done


async def _refresh_relation(engine: AsyncEngine, edition: Edition, rollups: list[Rollup], oldest: datetime) -> int:
    """One transaction's worth. Hours whose facts have expired are left as they are."""
    relation = rollups[0].relation
    async with writing(engine) as connection:
        watermark = (await connection.execute(text(query("lock_rollup")), {"relation": relation})).scalar_one()
        target = max(watermark, floor_hour(datetime.now(UTC) - HOUR))
        taken = await connection.execute(
            text(query("take_dirty")), {"relation": relation, "watermark": target, "most": BUCKETS_PER_RUN}
        )
        taken_hours = list(taken.scalars())
        hours = [hour for hour in taken_hours if hour >= oldest]
        days = {floor(hour, DAY) for hour in hours}
        if len(taken_hours) < BUCKETS_PER_RUN:
            # Days that end now become rows even if none of their hours changed since.
            days |= set(_starts(floor(watermark, DAY), target, DAY))
            await connection.execute(text(query("compact_dirty")), {"relation": relation, "watermark": target})
            await connection.execute(text(query("move_watermark")), {"relation": relation, "watermark": target})
        for rollup in rollups:
            buckets = sorted(day for day in days if day < floor(target, DAY)) if rollup.hourly else hours
            for bucket in buckets:
                await _aggregate_again(connection, edition, rollup, bucket)
    return len(taken_hours)


async def _aggregate_again(connection: AsyncConnection, edition: Edition, rollup: Rollup, bucket: datetime) -> None:
    time = "bucket" if rollup.hourly else "ts"
    select = rollup_select(rollup.name, edition, f"{time} >= :bucket AND {time} < :end")
    names = {"rollup": rollup.name, "select": select}
    await connection.execute(text(_rendered("forget_bucket", names)), {"bucket": bucket})
    await connection.execute(text(_rendered("make_bucket", names)), {"bucket": bucket, "end": bucket + rollup.bucket})


def _rendered(name: str, names: dict[str, str]) -> str:
    statement = query(name)
    for key, value in names.items():
        statement = statement.replace("{" + key + "}", value)
    return statement


async def exact_until(connection: AsyncConnection, edition: Edition, rollup: str) -> datetime:
    """The newest instant before which nothing is pending; buckets that end before it are exact. UTC."""
    known = next(item for item in ROLLUPS if item.name == rollup)
    if edition.has_own_rollups:
        found = await connection.execute(
            text(query("own_exact_until")), {"relation": known.relation, "width": known.bucket}
        )
    else:
        names = [name for name in (known.name, known.hourly) if name]
        found = await connection.execute(
            text(query("continuous_exact_until")), {"rollups": names, "width": known.bucket}
        )
    moment: datetime = found.scalar_one()
    return moment


async def expire(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Drop own rollup rows older than `retain_rollups`. Returns how many; 0 on community, which has a policy."""
    if not edition.has_own_rollups:
        return 0
    dropped = 0
    before = datetime.now(UTC) - settings.retain_rollups
    async with writing(engine) as connection:
        for rollup in ROLLUPS:
            result = await connection.execute(
                text(_rendered("expire_buckets", {"rollup": rollup.name})), {"before": before}
            )
            dropped += result.rowcount
    return dropped


async def refresh_range(
    engine: AsyncEngine, edition: Edition, settings: Settings, from_ts: datetime, to_ts: datetime
) -> None:
    """Refresh what lies in a range now, whatever the edition; ends before the hour that is still live."""
    if edition.has_own_rollups:
        await refresh(engine, edition, settings)
        return
    end = min(to_ts, datetime.now(UTC) - HOUR)
    with wrap_errors():
        async with engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for rollup in ROLLUPS:
                values = {
                    "rollup": f"tollwatch.{rollup.name}",
                    "from_ts": floor(from_ts, rollup.bucket),
                    "to_ts": floor(end, rollup.bucket),
                }
                await autocommit.execute(text(query("refresh_continuous")), values)


def floor(moment: datetime, bucket: timedelta) -> datetime:
    """The start of the bucket (an hour or a day, UTC) that holds a moment."""
    return EPOCH + (moment - EPOCH) // bucket * bucket


def _starts(first: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while first + step <= end:
        yield first
        first += step
