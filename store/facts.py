"""Facts: frozen values, one per row, with names already resolved to ids. What the writer stores.

Times are aware datetimes, UTC, finite, whole milliseconds. Amounts are integers of atomic units, 0 to 2^63 − 1.
Addresses, signatures and digests are raw bytes. JSON columns hold encoded JSON text. What a fact must have stands
before what it may have, so that ingest can make one from its values in order: names would take it ten times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

MAX_AMOUNT = 2**63 - 1
RELATIONS = ("payments", "api_requests", "audit_events", "queue_events", "balance_samples")
"""The relations that facts go to, in the order in which every transaction writes them."""


class Fact(msgspec.Struct, frozen=True, gc=False):
    """What every event has: whose it is, when it happened, its identity, who says so."""

    project_id: int
    ts: datetime
    id: UUID
    origin: str


class Payment(Fact, frozen=True, gc=False):
    """One transition of a payment. `is_duplicate` is the writer's to say."""

    payment_id: UUID
    agent_id: int
    status: str
    amount: int
    asset_id: int
    service: str
    request_id: UUID | None = None
    x402_payment_id: str | None = None
    wallet_id: int | None = None
    session_id: UUID | None = None
    pay_to: bytes | None = None
    resource: str | None = None
    facilitator: str | None = None
    signature: bytes | None = None
    slot: int | None = None
    commitment: str | None = None
    confirmations: int | None = None
    fee_lamports: int | None = None
    retry_count: int = 0
    backoff_ms: int = 0
    error_type: str | None = None
    failure_reason: str | None = None
    facilitator_response: str | None = None
    metadata: str | None = None


class ApiRequest(Fact, frozen=True, gc=False):
    """One attempt of a logical request."""

    request_id: UUID
    max_retries: int
    agent_id: int
    service: str
    outcome: str
    attempt: int = 1
    wallet_id: int | None = None
    session_id: UUID | None = None
    endpoint_type: str | None = None
    resource: str | None = None
    method: str | None = None
    response_status: int | None = None
    x402_version: int | None = None
    payment_required: str | None = None
    payment_id: UUID | None = None
    paid: bool = False
    latency_ms: int | None = None
    backoff_ms: int = 0
    component: str | None = None
    breaker_state: str | None = None
    error_type: str | None = None
    failure_reason: str | None = None
    request_digest: bytes | None = None
    response_digest: bytes | None = None
    response_bytes: int | None = None
    data_as_of: datetime | None = None


class AuditEvent(Fact, frozen=True, gc=False):
    """Something that an operator may have to explain."""

    event_type: str
    severity: str
    agent_id: int | None = None
    component: str | None = None
    request_id: UUID | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    details: str | None = None


class QueueEvent(Fact, frozen=True, gc=False):
    """A request that an agent put off, took up again or gave up."""

    agent_id: int
    request_id: UUID
    state: str
    priority_score: float | None = None
    reason: str | None = None
    asset_id: int | None = None
    balance: int | None = None
    freshness_s: int | None = None


class BalanceSample(msgspec.Struct, frozen=True, gc=False):
    """One balance reading. `status` None: the writer compares the amount with the threshold in force."""

    project_id: int
    wallet_id: int
    asset_id: int
    ts: datetime
    agent_id: int
    amount: int
    slot: int
    commitment: str
    origin: str
    status: str | None = None
    reason: str | None = None


@dataclass(kw_only=True)
class Facts:
    """A batch that is stored in one transaction."""

    payments: list[Payment] = field(default_factory=list)
    api_requests: list[ApiRequest] = field(default_factory=list)
    audit_events: list[AuditEvent] = field(default_factory=list)
    queue_events: list[QueueEvent] = field(default_factory=list)
    balance_samples: list[BalanceSample] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.by_relation())

    def by_relation(self) -> Iterator[tuple[str, list[msgspec.Struct]]]:
        """(relation name, its rows), in the order in which every transaction writes them."""
        for name in RELATIONS:
            yield name, getattr(self, name)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a write did: rows that are new, per relation. The rest of the batch was there already."""

    new: dict[str, int]

    @property
    def total(self) -> int:
        """New rows over all relations."""
        return sum(self.new.values())
