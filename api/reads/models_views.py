"""What reads of what follows from facts answer."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from api.reads.fields import Amount, Instant, Json, Signature
from api.reads.models import AgentName, Asset, Network, Service, WalletAddress


class TrailItem(BaseModel):
    """One line of the ledger: a request (its last attempt), an audit event or a queue event."""

    ts: Instant
    kind: str
    id: UUID
    agent: AgentName | None
    request_id: UUID | None
    what: str = Field(description="A request's outcome, an audit event's type, a queue event's state")
    severity: str
    component: str | None
    service: Service | None
    resource: str | None
    success: bool | None
    attempts: int | None
    started_at: Instant | None
    payment_id: UUID | None
    payment_status: str | None
    payment_origin: str | None
    asset: Asset | None
    network: Network | None
    amount: Amount | None
    spent: Amount | None = Field(description="What all attempts of the request paid, as far as it settled")
    signature: Signature | None
    balance_before: Amount | None
    balance_after: Amount | None
    details: Json
    resolved_at: Instant | None


class WaitingItem(BaseModel):
    """A request that waits now, and why."""

    agent: AgentName
    network: Network
    request_id: UUID
    queued_at: Instant
    priority_score: float | None
    reason: str | None


class QueueEventItem(BaseModel):
    """A request put off, taken up again or given up."""

    ts: Instant
    id: UUID
    agent: AgentName
    request_id: UUID
    state: str
    priority_score: float | None
    reason: str | None
    asset: Asset | None
    network: Network | None
    balance: Amount | None = Field(description="At the decision")
    freshness_s: int | None = Field(description="Age of that balance")
    origin: str
    recorded_at: Instant


class SessionItem(BaseModel):
    """A wallet session: what it allows, and what was used of it."""

    session_id: UUID
    agent: AgentName
    network: Network
    wallet: WalletAddress
    status: str
    tx_limit: int | None
    tx_used: int = Field(description="As its agent says")
    tx_settled: int = Field(description="Payments under it that were seen to settle")
    delegated_at: Instant | None
    expires_at: Instant | None
    revoked_at: Instant | None


class RunwayItem(BaseModel):
    """How long the money of one wallet and asset lasts."""

    agent: AgentName
    network: Network
    wallet: WalletAddress
    asset: Asset
    ts: Instant
    amount: Amount
    threshold: Amount | None
    status: str
    outflow: Amount = Field(description="In the last 24 hours")
    observed_hours: float = Field(description="From the first sample to the last in them")
    burn_per_hour: Amount = Field(description="To the nearest atomic unit")
    runway_hours: float | None = Field(description="null: nothing flows out")


class BreakerIntervalItem(BaseModel):
    """A time that a circuit breaker spent in one state."""

    agent: AgentName
    network: Network
    component: str
    state: str
    started_at: Instant
    ended_at: Instant | None = Field(description="null: it is in it still")
    seconds: float | None
    event_id: UUID = Field(description="The audit event that began it")
    ended_by: UUID | None = Field(description="The audit event that ended it")
