"""Lists: for each the statement, the value of a row, the position of a page's end, and the filters it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.named_sql import query
from store.readers import positions, values
from store.readers.positions import Position, Window

FIRST_PART = timedelta(days=7)
"""Hours are read back in parts: this one first, each further one `PART_GROWTH` times as long."""
PART_GROWTH = 4

R = TypeVar("R", bound=values.Row)


@dataclass(frozen=True, kw_only=True)
class Listing(Generic[R]):
    """One list. `filters` are the parameters of the statement that may be NULL: no filter, or not grouped by it."""

    query: str
    row: type[R]
    position: type[Position]
    filters: tuple[str, ...] = ()
    is_of_time: bool = True


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One page of a project's list: after `position`, at most `limit` rows."""

    project_id: int
    window: Window | None
    position: Position
    limit: int
    filters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Page(Generic[R]):
    """Rows in the list's order; `next` is None where the list ends."""

    rows: list[R]
    next: Position | None


async def read_page(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> Page[R]:
    """Read one page. Filters that `asked` does not name are off. Raises DatabaseError."""
    return _page(listing, asked, await _fetch(connection, listing, asked))


async def read_hours(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> Page[R]:
    """Read one page of hours, from the newest part of the range back. Raises DatabaseError.

    Groups are summed before they are cut to a page, so a page of a long range would sum all of it. Parts grow, so a
    range with little in it takes few statements.
    """
    assert asked.window is not None
    rows: list[R] = []
    part, window, position = FIRST_PART, asked.window, asked.position
    while True:
        end: datetime = position.before_bucket  # type: ignore[attr-defined]
        from_ts = end - min(part, end - asked.window.from_ts)
        window = Window(from_ts, window.to_ts)
        narrowed = replace(asked, window=window, position=position, limit=asked.limit - len(rows))
        rows += await _fetch(connection, listing, narrowed)
        if len(rows) > asked.limit or from_ts <= asked.window.from_ts:
            return _page(listing, asked, rows)
        position = listing.position.first(Window(from_ts, from_ts))
        part *= PART_GROWTH


async def _fetch(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> list[R]:
    """The rows of a page, and one more where there is one."""
    parameters = {
        **dict.fromkeys(listing.filters),
        **asked.filters,
        **msgspec.structs.asdict(asked.position),
        **(msgspec.structs.asdict(asked.window) if asked.window else {}),
        "project_id": asked.project_id,
        "limit": asked.limit + 1,
    }
    found = await connection.execute(text(query(listing.query)), parameters)
    return [listing.row.from_row(row) for row in found.mappings()]


def _page(listing: Listing[R], asked: Asked, rows: list[R]) -> Page[R]:
    kept = rows[: asked.limit]
    return Page(rows=kept, next=listing.position.of(kept[-1]) if len(rows) > len(kept) else None)


AGENTS = Listing(query="read_agents", row=values.Agent, position=positions.AgentPosition, is_of_time=False)
BALANCES = Listing(
    query="read_balances",
    row=values.LatestBalance,
    position=positions.BalancePosition,
    filters=("agent_id", "wallet_ids", "asset_ids", "status"),
    is_of_time=False,
)
BREAKERS = Listing(
    query="read_breakers",
    row=values.Breaker,
    position=positions.BreakerPosition,
    filters=("agent_id", "component", "state"),
    is_of_time=False,
)
SAMPLES = Listing(
    query="read_balance_samples",
    row=values.Sample,
    position=positions.SamplePosition,
    filters=("agent_id", "wallet_ids", "asset_ids", "status"),
)
PAYMENTS = Listing(
    query="read_payments",
    row=values.Transition,
    position=positions.FactPosition,
    filters=(
        "duplicates",
        "agent_id",
        "asset_ids",
        "status",
        "origin",
        "service",
        "payment_id",
        "request_id",
        "signature",
    ),
)
REQUESTS = Listing(
    query="read_requests",
    row=values.Attempt,
    position=positions.FactPosition,
    filters=("agent_id", "outcome", "origin", "service", "component", "error_type", "request_id", "payment_id"),
)
AUDIT_EVENTS = Listing(
    query="read_audit_events",
    row=values.AuditEntry,
    position=positions.FactPosition,
    filters=(
        "agent_id",
        "event_type",
        "severity",
        "origin",
        "component",
        "request_id",
        "entity_type",
        "entity_id",
    ),
)
PAYMENTS_HOURLY = Listing(
    query="read_payments_hourly",
    row=values.PaymentsHour,
    position=positions.PaymentsHourPosition,
    filters=(
        *("by_agent", "by_service", "by_status", "by_origin"),
        *("agent_id", "asset_ids", "status", "origin", "service"),
    ),
)
REQUESTS_HOURLY = Listing(
    query="read_requests_hourly",
    row=values.RequestsHour,
    position=positions.RequestsHourPosition,
    filters=("by_agent", "by_service", "by_outcome", "agent_id", "outcome", "service"),
)
BALANCES_HOURLY = Listing(
    query="read_balances_hourly",
    row=values.BalancesHour,
    position=positions.BalancesHourPosition,
    filters=("agent_id", "wallet_ids", "asset_ids"),
)
