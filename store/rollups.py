"""Rollups: hourly and daily aggregates with a live tail, and how far they are exact.

On community TimescaleDB refreshes continuous aggregates by policy, and `refresh` only what a backfill touched behind
the policy's window. Elsewhere `refresh` does it all: inserts log the hours that they touch; a run takes the logged
hours below the watermark, aggregates each again, and moves the watermark, in one transaction. Hours from the watermark
on are aggregated when they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

from sqlalchemy import String, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.deadlines import Deadlines
from store.edition import Edition
from store.engine import autocommitting, reading, writing
from store.errors import DatabaseTimeout
from store.horizons import DAY, HOUR, RELATIONS, ROLLUPS, Relation, Rollup, retention_of
from store.identity import EPOCH
from store.named_sql import query, rendered, rollup_select
from store.settings import Settings

BUCKETS_PER_RUN = 48
"""Hours that one transaction aggregates again; what is left stays logged for the next run."""
FORCED_BUCKETS = 168
"""Buckets of a continuous aggregate that one forced refresh makes again."""

PATIENT_AFTER = timedelta(hours=3)
"""How far the watermark may lag before its step waits for writers as long as any job does, and fails aloud."""

Span = tuple[datetime, datetime]
"""From, inclusive, and to, exclusive."""


def floor_hour(moment: datetime) -> datetime:
    """The start of the hour, UTC."""
    return floor(moment, HOUR)


def floor(moment: datetime, bucket: timedelta) -> datetime:
    """The start of the bucket (an hour or a day, UTC) that holds a moment."""
    return EPOCH + (moment - EPOCH) // bucket * bucket


def of(relation: str) -> list[Rollup]:
    """The rollups of a relation, hours first."""
    return [rollup for rollup in ROLLUPS if rollup.relation == relation]


async def refresh(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Bring every rollup up to date, as far as no policy does. Returns the number of hours aggregated again."""
    return sum([await refresh_relation(engine, edition, settings, relation) for relation in RELATIONS])


async def refresh_relation(engine: AsyncEngine, edition: Edition, settings: Settings, relation: Relation) -> int:
    """The same for one relation, one bounded transaction after the other."""
    if not of(relation.name):
        return 0
    once = _refresh_own if edition.has_own_rollups else _refresh_backfilled
    done = 0
    while (hours := await once(engine, edition, settings, relation)) > 0:
        done += hours
        if hours < BUCKETS_PER_RUN:
            break
    return done


async def _refresh_own(engine: AsyncEngine, edition: Edition, settings: Settings, relation: Relation) -> int:
    """One transaction's worth, and the step of the watermark when nothing is left below it."""
    name = relation.name
    oldest = datetime.now(UTC) - retention_of(relation, settings)
    async with writing(engine) as connection:
        watermark = (await connection.execute(text(query("lock_rollup")), {"relation": name})).scalar_one()
        target = max(watermark, floor_hour(datetime.now(UTC) - HOUR))
        hours = await _take_dirty(connection, name, target)
        kept = [hour for hour in hours if hour >= oldest]
        days = {floor(hour, DAY) for hour in kept}
        if len(hours) < BUCKETS_PER_RUN:
            # Days that end now become rows even if none of their hours changed since.
            days |= set(_starts(floor(watermark, DAY), target, DAY))
            await connection.execute(text(query("compact_dirty")), {"relation": name, "watermark": target})
        await _make_again(connection, edition, name, kept, days, target)
    if len(hours) < BUCKETS_PER_RUN and target > watermark:
        await _cross(engine, edition, name, oldest, (watermark, target))
    return len(hours)


async def _cross(engine: AsyncEngine, edition: Edition, relation: str, oldest: datetime, step: Span) -> None:
    """Move the watermark. Rows of the hours that it crosses are live until then, and must not be hidden by it: writers
    wait while what they added since is made again. When one of them does not end, the next run tries again.
    """
    watermark, target = step
    patient = target - watermark > PATIENT_AFTER
    try:
        async with writing(engine) as connection:
            if not patient:
                values = {"name": "lock_timeout", "value": str(int(Deadlines.crossing_lock * 1000))}
                await connection.execute(text(query("set_local")), values)
            await connection.execute(text(query("lock_rollup")), {"relation": relation})
            await connection.execute(text(query("hold_writers")))
            hours = await _take_dirty(connection, relation, target)
            kept = [hour for hour in hours if hour >= oldest]
            await _make_again(connection, edition, relation, kept, {floor(hour, DAY) for hour in kept}, target)
            if len(hours) < BUCKETS_PER_RUN:
                await connection.execute(text(query("move_watermark")), {"relation": relation, "watermark": target})
    except DatabaseTimeout:
        if patient:
            raise


async def _take_dirty(connection: AsyncConnection, relation: str, before: datetime) -> list[datetime]:
    values = {"relation": relation, "watermark": before, "most": BUCKETS_PER_RUN}
    return list((await connection.execute(text(query("take_dirty")), values)).scalars())


async def _make_again(
    connection: AsyncConnection,
    edition: Edition,
    relation: str,
    hours: Iterable[datetime],
    days: Iterable[datetime],
    target: datetime,
) -> None:
    """Aggregate hours and ended days. Hours whose facts have expired must not be among them: they stay as they are."""
    ended = [day for day in days if day < floor(target, DAY)]
    for rollup in of(relation):
        for span in _spans(ended if rollup.bucket == DAY else hours, rollup.bucket):
            await _aggregate_again(connection, edition, rollup, span)


async def _aggregate_again(connection: AsyncConnection, edition: Edition, rollup: Rollup, span: Span) -> None:
    time = "bucket" if rollup.hourly else "ts"
    select = rollup_select(rollup.name, edition, f"{time} >= :from_ts AND {time} < :to_ts")
    names = {"rollup": rollup.name, "select": select}
    values = {"from_ts": span[0], "to_ts": span[1]}
    await connection.execute(text(rendered("forget_buckets", **names)), values)
    await connection.execute(text(rendered("make_buckets", **names)), values)


async def _refresh_backfilled(engine: AsyncEngine, _edition: Edition, settings: Settings, relation: Relation) -> int:
    """Refresh the hours that a backfill logged, then their days. Killed before it forgets them, it does so again."""
    async with reading(engine) as connection:
        found = await connection.execute(
            text(query("backfilled_hours")), {"relation": relation.name, "most": BUCKETS_PER_RUN}
        )
        logged = found.all()
    for rollup in of(relation.name):
        spans = await _due(engine, rollup, settings, retention_of(relation, settings), [row.bucket for row in logged])
        await _refresh_continuous(engine, rollup, spans)
    if logged:
        async with writing(engine) as connection:
            for row in logged:
                await connection.execute(text(query("forget_backfilled")), {"entries": row.entries})
    return len(logged)


async def _due(
    engine: AsyncEngine, rollup: Rollup, settings: Settings, retention: timedelta, hours: list[datetime]
) -> list[Span]:
    """What to refresh by hand: touched buckets below the watermark, and all that the policy's window will pass over.

    Buckets from the watermark on are live, and must be made in order: a refresh of one of them moves the watermark past
    those before it, and hides them.
    """
    now = datetime.now(UTC)
    oldest = floor(now - retention, DAY) + DAY
    async with reading(engine) as connection:
        found = await connection.execute(text(query("continuous_watermark")), {"rollup": rollup.name, "oldest": oldest})
        watermark = floor(found.scalar_one(), rollup.bucket)
    touched = {floor(hour, rollup.bucket) for hour in hours}
    spans = list(_spans((one for one in touched if oldest <= one < watermark), rollup.bucket))
    # A whole day for hours too: a day made of live hours would have to be made again, behind its policy's window.
    window = floor(now - settings.rollup_window, DAY) + 2 * DAY
    return [*spans, (watermark, window)] if watermark < window else spans


async def _refresh_continuous(
    engine: AsyncEngine, rollup: Rollup, spans: Iterable[Span], *, force: bool = False
) -> None:
    async with autocommitting(engine) as connection:
        for from_ts, to_ts in spans:
            values = {"rollup": f"tollwatch.{rollup.name}", "from_ts": from_ts, "to_ts": to_ts, "force": force}
            await connection.execute(text(query("refresh_continuous")), values)


async def exact_until(connection: AsyncConnection, edition: Edition, *names: str) -> datetime:
    """The newest instant before which nothing is pending in any of some rollups; buckets that end before it are exact.

    UTC.
    """
    statements = dict.fromkeys(_exact_statements(edition, names))
    moments: list[datetime] = [(await connection.execute(one)).scalar_one() for one in statements]
    return min(moments)


@cache
def _exact_statements(edition: Edition, names: tuple[str, ...]) -> tuple[TextClause, ...]:
    """For each relation and width one statement without parameters: a session plans it once, whatever its
    `plan_cache_mode`; planning takes several times as long as running it.
    """
    asked = [rollup for rollup in ROLLUPS if rollup.name in names]
    kinds = dict.fromkeys((rollup.relation, rollup.bucket) for rollup in asked)
    return tuple(
        _exact_statement(edition, [one for one in asked if (one.relation, one.bucket) == kind]) for kind in kinds
    )


def _exact_statement(edition: Edition, asked: list[Rollup]) -> TextClause:
    values = {"relation": asked[0].relation, "width": _seconds(asked[0])}
    if edition.has_own_rollups:
        return _with_literals("own_exact_until", values)
    relation = next(item for item in RELATIONS if item.name == asked[0].relation)
    parts = dict.fromkeys(part for rollup in asked for part in lineage(rollup))
    more = {
        "rollups": ",".join(part.name for part in parts).join("{}"),
        "widths": ",".join(_seconds(part) for part in parts).join("{}"),
        "retention": relation.retention,
    }
    return _with_literals("continuous_exact_until", values | more)


def _seconds(rollup: Rollup) -> str:
    return f"{rollup.bucket // timedelta(seconds=1)} s"


def _with_literals(name: str, values: Mapping[str, str]) -> TextClause:
    """A statement with values of ours put in, as text that PostgreSQL casts."""
    return text(query(name)).bindparams(
        *(bindparam(key, value, String, literal_execute=True) for key, value in values.items())
    )


def lineage(rollup: Rollup) -> Iterator[Rollup]:
    """A rollup, what it is made of, and so on to the hours of facts."""
    yield rollup
    for parent in ROLLUPS:
        if parent.name == rollup.hourly:
            yield from lineage(parent)


async def fill(engine: AsyncEngine) -> int:
    """Refresh, over all time, continuous aggregates that were never refreshed although what they are made of was.

    Their policy reaches back `rollup_window` only, and its first run would hide what is older. For after a migration
    that makes them. Returns how many.
    """
    filled = 0
    async with autocommitting(engine) as connection:
        for rollup in ROLLUPS:
            if rollup.hourly is None:
                continue
            names = {"rollup": rollup.name, "made_of": rollup.hourly}
            if not (await connection.execute(text(query("is_unfilled")), names)).scalar_one():
                continue
            end = floor(datetime.now(UTC) - rollup.bucket, rollup.bucket)
            values = {"rollup": f"tollwatch.{rollup.name}", "from_ts": EPOCH, "to_ts": end, "force": False}
            await connection.execute(text(query("refresh_continuous")), values)
            filled += 1
    return filled


async def expire(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Drop own rollup rows older than `retain_rollups`, by whole days. Returns how many; on community a policy does."""
    if not edition.has_own_rollups:
        return 0
    dropped = 0
    # Of a day whose first hours are gone, the others would make another day.
    before = floor(datetime.now(UTC) - settings.retain_rollups, DAY)
    async with writing(engine) as connection:
        for rollup in ROLLUPS:
            result = await connection.execute(text(rendered("expire_buckets", rollup=rollup.name)), {"before": before})
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
    for rollup in ROLLUPS:
        span = (floor(from_ts, rollup.bucket), floor(end, rollup.bucket))
        await _refresh_continuous(engine, rollup, [span])


async def rebuild(engine: AsyncEngine, edition: Edition, settings: Settings) -> int:
    """Make every bucket again whose facts are all kept; may be run again. Returns how many hours. DatabaseError."""
    return sum([await _rebuild(engine, edition, settings, relation) for relation in RELATIONS if of(relation.name)])


async def _rebuild(engine: AsyncEngine, edition: Edition, settings: Settings, relation: Relation) -> int:
    # A day more: retention must not take, while this runs, what this reads.
    oldest = floor(datetime.now(UTC) - retention_of(relation, settings), DAY) + 2 * DAY
    if edition.has_own_rollups:
        async with writing(engine) as connection:
            buckets = " UNION ".join(rendered("held_buckets", rollup=rollup.name) for rollup in of(relation.name))
            statement = rendered("log_hours_again", relation=relation.name, buckets=buckets)
            logged = await connection.execute(text(statement), {"relation": relation.name, "from_ts": oldest})
            hours = int(logged.scalar_one())
        await refresh_relation(engine, edition, settings, relation)
        return hours
    for rollup in of(relation.name):
        end = floor(datetime.now(UTC) - rollup.bucket, rollup.bucket)
        spans = list(_pieces(oldest, end, FORCED_BUCKETS * rollup.bucket))
        await _refresh_continuous(engine, rollup, spans, force=True)
    return (floor_hour(datetime.now(UTC) - HOUR) - oldest) // HOUR


def _spans(buckets: Iterable[datetime], width: timedelta) -> Iterator[Span]:
    """Buckets as spans: neighbours are made in one statement."""
    start = end = None
    for bucket in sorted(buckets):
        if start is not None and bucket == end:
            end = bucket + width
            continue
        if start is not None and end is not None:
            yield start, end
        start, end = bucket, bucket + width
    if start is not None and end is not None:
        yield start, end


def _pieces(start: datetime, end: datetime, width: timedelta) -> Iterator[Span]:
    while start < end:
        yield start, min(start + width, end)
        start += width


def _starts(first: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while first + step <= end:
        yield first
        first += step
