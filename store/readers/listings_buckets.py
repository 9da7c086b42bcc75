"""Lists of hours and days: rollups, summed over the grouping that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from store import rollups
from store.edition import Edition
from store.horizons import DAY, HOUR
from store.readers import positions, values, values_buckets
from store.readers.listings import Asked, Listing, Page, cut, fetch
from store.readers.positions import Window

FIRST_PART = 24
"""Buckets are read back in parts, and this many first."""
FIRST_PART_OF_MANY = 1
"""The same where a bucket may have a row for each service, or for each of thousands of agents."""
MARGIN = 1.25
"""How much longer the next part is than one that would fill the page with as many rows an hour as there were before."""
MOST_GROWTH = 24
"""How many times as long as all before it a part is for want of rows."""
LEAST_GROWTH = 8
"""At least, of the third part; of the fourth its square: the longest range takes five parts, whatever is in it."""
LIVE = timedelta(hours=2)
"""Hours before now that may be above the watermark of a rollup; where more are, reads are right and slower."""

B = TypeVar("B", bound=values_buckets.Bucket)
R = TypeVar("R", bound=values.Row)
_NAMES = {HOUR: "hourly", DAY: "daily"}
_BY_AGENT = {"payments": "payments", "requests": "requests", "latency": "request_latency", "agent_id": "r.agent_id"}
_BY_SERVICE = {
    "payments": "service_payments",
    "requests": "service_requests",
    "latency": "service_latency",
    "agent_id": "0",
}


@dataclass(frozen=True, kw_only=True)
class BucketListing(Listing[B], Generic[B]):
    """One list of buckets of one size. `rollups`: what it is made of, without the size; what those are made of is
    checked with them.
    """

    rollups: tuple[str, ...]
    size: timedelta = HOUR
    always_by_agent: bool = False

    @property
    def statement(self) -> str:
        """The statement's text, on the rollups of this size."""
        return super().statement.replace("{size}", _NAMES[self.size])

    def statement_for(self, asked: Asked) -> str:
        """The same on the rollups by agent, or by service if no agent is asked for."""
        found = self.statement
        for name, value in (_BY_AGENT if self.is_of_agents(asked) else _BY_SERVICE).items():
            found = found.replace("{" + name + "}", value)
        return found

    def is_of_agents(self, asked: Asked) -> bool:
        """Whether agents are told apart, or one is asked for."""
        return self.always_by_agent or "by_agent" in asked.filters or "agent_id" in asked.filters

    def first_part(self, asked: Asked) -> timedelta:
        """How much of the range to look at first."""
        is_of_many = self.always_by_agent or asked.filters.keys() & {"by_agent", "by_service"}
        is_of_one = asked.filters.keys() & {"agent_id", "wallet_ids"}
        return self.size * (FIRST_PART_OF_MANY if is_of_many and not is_of_one else FIRST_PART)

    def daily(self) -> Self:
        """The same list of days."""
        return replace(self, size=DAY)

    async def exact_until(self, connection: AsyncConnection, edition: Edition) -> datetime:
        """The newest instant before which nothing is pending in any of its rollups."""
        names = [f"{rollup}_{_NAMES[self.size]}" for rollup in self.rollups]
        return await rollups.exact_until(connection, edition, *names)


async def read_buckets(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> Page[R]:
    """Read one page of hours or days, from the newest part of the range back. Raises DatabaseError.

    Groups are summed before they are cut to a page, so a page of a long range would sum all of it. Parts grow, so
    a range with little in it takes few statements.
    """
    assert asked.window is not None
    assert isinstance(listing, BucketListing)
    rows: list[R] = []
    part, window, position = listing.first_part(asked), asked.window, asked.position
    start: datetime = position.before_bucket  # type: ignore[attr-defined]
    least = 1
    while True:
        end: datetime = position.before_bucket  # type: ignore[attr-defined]
        from_ts = end - min(part, end - asked.window.from_ts)
        window = Window(from_ts, window.to_ts)
        narrowed = replace(asked, window=window, position=position, limit=asked.limit - len(rows))
        rows += await fetch(connection, listing, narrowed)
        if len(rows) > asked.limit or from_ts <= asked.window.from_ts:
            return cut(listing, asked, rows)
        position = listing.position.first(Window(from_ts, from_ts))
        part = _next_part(start - from_ts, len(rows), asked.limit + 1, least)
        least *= LEAST_GROWTH


def _next_part(looked_at: timedelta, found: int, wanted: int, least: int) -> timedelta:
    """How much to look at after a span with so many of the rows that are wanted."""
    share = MARGIN * (wanted - found) / found if found else MOST_GROWTH
    return looked_at * max(least, min(share, MOST_GROWTH))


PAYMENTS = BucketListing(
    query="read_payments_buckets",
    row=values_buckets.PaymentsBucket,
    position=positions.PaymentsBucketPosition,
    rollups=("service_payments",),
    filters=(
        *("by_agent", "by_service", "by_status", "by_origin"),
        *("agent_id", "asset_ids", "status", "origin", "service"),
    ),
)
REQUESTS = BucketListing(
    query="read_requests_buckets",
    row=values_buckets.RequestsBucket,
    position=positions.RequestsBucketPosition,
    rollups=("service_requests", "service_latency"),
    filters=("by_agent", "by_service", "by_outcome", "agent_id", "outcome", "service", "quantiles"),
)
BALANCES = BucketListing(
    query="read_balances_buckets",
    row=values_buckets.BalancesBucket,
    position=positions.BalancesBucketPosition,
    rollups=("balances",),
    always_by_agent=True,
    filters=("agent_id", "wallet_ids", "asset_ids"),
)
SPEND = BucketListing(
    query="read_spend",
    row=values_buckets.Spend,
    position=positions.SpendPosition,
    rollups=("service_payments",),
    filters=("by_agent", "by_service", "agent_id", "asset_ids", "service"),
)


@dataclass(frozen=True, kw_only=True)
class RetryListing(BucketListing[values_buckets.RetryHealth]):
    """Hours of retries; or with `is_total` one bucket, the whole range, in which whole days are read as days."""

    is_total: bool = False

    @property
    def statement(self) -> str:
        """The statement's text, for hours or for the total."""
        return super().statement.replace("{is_total}", "true" if self.is_total else "false")

    def more_parameters(self, asked: Asked) -> Mapping[str, Any]:
        """Where whole days begin and end, and from where on hours may be aggregated when they are read."""
        assert asked.window is not None
        first_day = last_day = asked.window.to_ts
        if self.is_total:
            first_day = _floor_day(asked.window.from_ts + DAY - timedelta(microseconds=1))
            last_day = max(first_day, _floor_day(asked.window.to_ts))
        return {"first_day": first_day, "last_day": last_day, "live_from": rollups.floor_hour(datetime.now(UTC) - LIVE)}

    async def exact_until(self, connection: AsyncConnection, edition: Edition) -> datetime:
        """The newest instant before which nothing is pending in any of its rollups."""
        hours = await super().exact_until(connection, edition)
        return min(hours, await self.daily_exact_until(connection, edition)) if self.is_total else hours

    async def daily_exact_until(self, connection: AsyncConnection, edition: Edition) -> datetime:
        """The same of the days, which follow their hours."""
        return await BucketListing.exact_until(self.daily(), connection, edition)


def _floor_day(moment: datetime) -> datetime:
    """The start of its day, UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


RETRY_HEALTH = RetryListing(
    query="read_retry_health",
    row=values_buckets.RetryHealth,
    position=positions.RetryHealthPosition,
    rollups=("service_requests", "service_payments"),
    filters=("by_agent", "by_service", "agent_id", "asset_ids", "service"),
)
RETRY_HEALTH_TOTALS = replace(RETRY_HEALTH, is_total=True)
"""One bucket, which is the whole range; read it with `read_page`."""
