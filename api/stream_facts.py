"""What a stream tells of one project: a reading, and what is new since the reading before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from api.dependencies import AppState
from api.reads.fields import write
from api.reads.models import AuditItem, BreakerItem, PaymentItem
from api.reads.models_views import RunwayItem
from store.engine import reading
from store.readers.listings import AUDIT_EVENTS, BALANCES, BREAKERS, PAYMENTS, Asked, Listing, Page, read_page
from store.readers.listings_views import RUNWAY
from store.readers.positions import Window
from store.readers.values import Row

WINDOW = timedelta(minutes=5)
"""Facts whose time lies further back are not told: a stream is for watching, the lists have everything."""
MOST = 200
"""Most items of one event."""

_PAYMENT = frozenset(PaymentItem.model_fields) - {
    *("ts", "id", "payment_id", "request_id", "agent", "wallet", "status", "amount", "asset", "network", "service"),
    *("signature", "error_type", "failure_reason", "origin"),
}
_AUDIT = frozenset({"details", "recorded_at", "resolved_at", "resolved_by", "resolution", "automatic"})

Items = dict[Any, dict[str, Any]]
"""Items by what tells them apart, in the order of their list."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one look at the database gave: facts of the window, newest first, and present state."""

    payments: Items = field(default_factory=dict)
    audit: Items = field(default_factory=dict)
    balances: Items = field(default_factory=dict)
    breakers: Items = field(default_factory=dict)
    cut: frozenset[str] = frozenset()
    heads: list[Row] = field(default_factory=list)

    def present(self) -> dict[str, list[dict[str, Any]]]:
        """All of it, for the event `hello`."""
        return {name: list(items.values()) for name, items in self._all().items()}

    def news(self, before: Reading) -> dict[str, dict[str, Any]]:
        """What `before` did not have, or had otherwise, by event; `more`: there may be others, told to nobody."""
        told = {}
        for name, items in self._all().items():
            old = before._all()[name]
            new = [item for key, item in items.items() if old.get(key) != item]
            if new:
                told[name] = {"items": new, "more": name in self.cut and len(new) == len(items)}
        return told

    def _all(self) -> Mapping[str, Items]:
        return {"balances": self.balances, "payments": self.payments, "audit": self.audit, "breakers": self.breakers}


async def read(state: AppState, project_id: int, before: Reading) -> Reading:
    """Look at one project, on one connection. Raises DatabaseError."""
    now = state.clock()
    window = Window(now - WINDOW, now + state.settings.clock_skew)
    async with reading(state.engine) as connection:
        payments = await _page(connection, PAYMENTS, project_id, window)
        audit = await _page(connection, AUDIT_EVENTS, project_id, window)
        breakers = await _page(connection, BREAKERS, project_id)
        heads = (await _page(connection, BALANCES, project_id)).rows
        # The heads cost little, the runway sums a day: only when a balance was read since.
        runway = None if heads == before.heads else (await _page(connection, RUNWAY, project_id)).rows
    pages: dict[str, Page[Any]] = {"payments": payments, "audit": audit}
    return Reading(
        payments=_items(PaymentItem, payments.rows, ("id",), _PAYMENT),
        audit=_items(AuditItem, audit.rows, ("id",), _AUDIT),
        breakers=_items(BreakerItem, breakers.rows, ("agent_id", "component")),
        balances=before.balances if runway is None else _items(RunwayItem, runway, ("wallet_id", "asset_id")),
        cut=frozenset(name for name, page in pages.items() if page.next is not None),
        heads=list(heads),
    )


async def _page(
    connection: AsyncConnection, listing: Listing[Any], project_id: int, window: Window | None = None
) -> Page[Any]:
    position = listing.position.first(window)
    filters = {"duplicates": False} if listing is PAYMENTS else {}
    asked = Asked(project_id=project_id, window=window, position=position, limit=MOST, filters=filters)
    return await read_page(connection, listing, asked)


def _items(
    model: type[BaseModel], rows: list[Row], key: tuple[str, ...], without: frozenset[str] = frozenset()
) -> Items:
    return {tuple(getattr(row, name) for name in key): write(model, row, without) for row in rows}
