"""Lists: for each the statement, the value of a row, the position of a page's end, and the filters it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.named_sql import query
from store.readers import positions, values
from store.readers.positions import LAST_ID, FactPosition, Position, SamplePosition, Window

FIRST_PART = timedelta(days=1)
"""Long lists are read back in parts: this one first, each further one `PART_GROWTH` times as long."""
PART_GROWTH = 4
_POINTS = {"request_id", "payment_id"}
"""Filters that few rows of a whole range pass: parts would all be read."""

R = TypeVar("R", bound=values.Row)


@dataclass(frozen=True, kw_only=True)
class Listing(Generic[R]):
    """One list. `filters` are the parameters of the statement that may be NULL: no filter, or not grouped by it.

    `of`: what the statement's `{…}` stand for, which is never a caller's.
    """

    query: str
    row: type[R]
    position: type[Position]
    filters: tuple[str, ...] = ()
    is_of_time: bool = True
    of: Mapping[str, str] = field(default_factory=dict)

    @property
    def statement(self) -> str:
        """The statement's text."""
        found = query(self.query)
        for name, value in self.of.items():
            found = found.replace("{" + name + "}", value)
        return found

    def statement_for(self, _asked: Asked) -> str:
        """The text that answers a question best."""
        return self.statement

    def more_parameters(self, _asked: Asked) -> Mapping[str, Any]:
        """Parameters that follow from the question."""
        return {}


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
    return cut(listing, asked, await fetch(connection, listing, asked))


async def read_parts(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> Page[R]:
    """Read one page of facts, from the newest part of the range back. Raises DatabaseError.

    A statement is planned for every partition of its range, and the newest ones mostly fill the page.
    """
    assert asked.window is not None
    assert isinstance(asked.position, FactPosition)
    if any(asked.filters.get(name) is not None for name in _POINTS):
        return await read_page(connection, listing, asked)
    return await _fill(connection, listing, asked, _parts(asked, asked.window, asked.position))


def _parts(asked: Asked, whole: Window, position: FactPosition) -> Iterator[Asked]:
    part, is_last = FIRST_PART, False
    while not is_last:
        is_last = position.before_ts - whole.from_ts <= 2 * part
        from_ts = whole.from_ts if is_last else position.before_ts - part
        yield replace(asked, window=Window(from_ts, whole.to_ts), position=position)
        position = FactPosition.first(Window(from_ts, from_ts))
        part *= PART_GROWTH


async def read_samples(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> Page[R]:
    """A page of samples: the rest of the pair that the last page ended in, then further pairs. Raises DatabaseError."""
    return await _fill(connection, listing, asked, filter(None, (rest_of_pair(asked), asked)))


def rest_of_pair(asked: Asked) -> Asked | None:
    """The question for what is left of the wallet and asset that a position is in; None in front of the first."""
    at = asked.position
    assert asked.window is not None
    assert isinstance(at, SamplePosition)
    if at.before_wallet_id == LAST_ID:
        return None
    window = Window(asked.window.from_ts, min(at.before_ts, asked.window.to_ts))
    pair = {"wallet_ids": [at.before_wallet_id], "asset_ids": [at.before_asset_id]}
    return replace(asked, window=window, position=SamplePosition.first(window), filters={**asked.filters, **pair})


async def _fill(connection: AsyncConnection, listing: Listing[R], asked: Asked, parts: Iterable[Asked]) -> Page[R]:
    """One page from parts of its question, in the list's order, as many as it takes."""
    rows: list[R] = []
    for part in parts:
        rows += await fetch(connection, listing, replace(part, limit=asked.limit - len(rows)))
        if len(rows) > asked.limit:
            break
    return cut(listing, asked, rows)


async def fetch(connection: AsyncConnection, listing: Listing[R], asked: Asked) -> list[R]:
    """The rows of a page, and one more where there is one."""
    parameters = {
        **dict.fromkeys(listing.filters),
        **asked.filters,
        **msgspec.structs.asdict(asked.position),
        **(msgspec.structs.asdict(asked.window) if asked.window else {}),
        "project_id": asked.project_id,
        "limit": asked.limit + 1,
        **listing.more_parameters(asked),
    }
    found = await connection.execute(_parsed(listing.statement_for(asked)), parameters)
    names = tuple(found.keys())
    return [listing.row.from_row(dict(zip(names, row, strict=True))) for row in found.all()]


@cache
def _parsed(statement: str) -> TextClause:
    """The statement, its parameters found once: there are as many as lists have forms."""
    return text(statement)


def cut(listing: Listing[R], asked: Asked, rows: list[R]) -> Page[R]:
    """The page of rows that `fetch` gave."""
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
