"""Rows of views: what follows from facts. See store/readers/values.py for the types of fields."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from store.readers.values import Row, Summed


class TrailKey(Row, frozen=True, kw_only=True):
    """Where a line of the ledger is to be found. `kind`: request, audit or queue; `told_ts`: of its payment's head."""

    ts: datetime
    id: UUID
    kind: str
    request_id: UUID | None
    told_ts: datetime | None


class TrailLine(Summed, frozen=True, kw_only=True):
    """One line of the ledger: a request (its last attempt; `spent` by all of them), an audit event, a queue event."""

    ts: datetime
    kind: str
    id: UUID
    agent: str | None
    request_id: UUID | None
    what: str
    severity: str
    component: str | None
    service: str | None
    resource: str | None
    success: bool | None
    attempts: int | None
    started_at: datetime | None
    payment_id: UUID | None
    payment_status: str | None
    payment_origin: str | None
    asset: str | None
    network: str | None
    amount: int | None
    spent: int | None
    signature: bytes | None
    balance_before: int | None
    balance_after: int | None
    details: str | None
    resolved_at: datetime | None


class Waiting(Row, frozen=True, kw_only=True):
    """A request that waits now, and why."""

    agent_id: int
    agent: str
    network: str
    request_id: UUID
    queued_at: datetime
    priority_score: float | None
    reason: str | None


class QueueEntry(Row, frozen=True, kw_only=True):
    """One queue event: balance and freshness are those of the decision."""

    ts: datetime
    id: UUID
    agent: str
    request_id: UUID
    state: str
    priority_score: float | None
    reason: str | None
    asset: str | None
    network: str | None
    balance: int | None
    freshness_s: int | None
    origin: str
    recorded_at: datetime


class SessionUsage(Row, frozen=True, kw_only=True):
    """A wallet session: what it allows, what its agent says it used, what was seen to settle."""

    agent_id: int
    session_id: UUID
    agent: str
    network: str
    wallet: str
    status: str
    tx_limit: int | None
    tx_used: int
    tx_settled: int
    delegated_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class Runway(Summed, frozen=True, kw_only=True):
    """How long the money lasts; `runway_hours` is None where nothing flows out."""

    wallet_id: int
    asset_id: int
    agent: str
    network: str
    wallet: str
    asset: str
    ts: datetime
    amount: int
    threshold: int | None
    status: str
    outflow: int
    observed_hours: float
    burn_per_hour: int
    runway_hours: float | None


class BreakerInterval(Row, frozen=True, kw_only=True):
    """How long a circuit breaker was in a state; `ended_at` None: it still is."""

    agent: str
    network: str
    component: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None
    event_id: UUID
    ended_by: UUID | None
