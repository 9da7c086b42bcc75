"""The five kinds of events, typed. Members bear the names of Tollwatch's `/v1/schemas`; None is left out.

Nothing is checked when an event is made, so that making one never raises; `encode` checks, and `Recorder.record` counts
what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID

from tollwatch import values
from tollwatch.errors import InvalidEvent

PaymentStatus: TypeAlias = Literal["pending", "verified", "settled", "failed", "reverted", "retrying", "unknown"]
Outcome: TypeAlias = Literal["ok", "payment_required", "retrying", "failed", "skipped_open"]
ErrorType: TypeAlias = Literal[
    "insufficient_funds", "network_failure", "rejected", "rpc_error", "timeout", "invalid_402", "upstream_error",
    "session_expired", "session_limit", "duplicate", "other",
]  # fmt: skip
Commitment: TypeAlias = Literal["processed", "confirmed", "finalized"]
BreakerState: TypeAlias = Literal["closed", "open", "half_open"]
Severity: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
BalanceStatus: TypeAlias = Literal["sufficient", "low", "paused"]
QueueState: TypeAlias = Literal["queued", "processed", "dropped"]
QueueReason: TypeAlias = Literal["funds", "breaker", "rpc"]
Origin: TypeAlias = Literal["agent", "facilitator"]
AUDIT_TYPES = (
    "payment_failure", "low_balance", "paused", "resumed", "top_up_requested", "topped_up", "breaker_opened",
    "breaker_half_opened", "breaker_closed", "retry_success", "retry_exhausted", "network_failure", "rate_limited",
    "session_created", "session_expired", "session_revoked", "session_limit_reached",
)  # fmt: skip
"""Audit types that Tollwatch knows; an agent's own begin with `x.`."""

Amount: TypeAlias = int | str
Id: TypeAlias = str | UUID


class Item(NamedTuple):
    """An encoded event: its id and its JSON."""

    id: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event has. The recorder fills in `agent`, and an `id` of the present millisecond."""

    TYPE: ClassVar[str]

    agent: str | None = None
    id: Id | None = None
    network: str | None = None
    origin: Origin | None = None

    def encode(self, ident: str, agent: str | None) -> Item:
        """As it is sent; `ident` and `agent` stand in where it has none. Raises InvalidEvent."""
        members: dict[str, object] = {"type": self.TYPE, "id": ident, "agent": agent}
        for name, make, required in _members(self.TYPE):
            value = getattr(self, name)
            if value is not None:
                members[name] = make(name, value)
            elif required:
                raise InvalidEvent(name, "is missing")
        if members["agent"] is None:
            if self.TYPE != Audit.TYPE:
                raise InvalidEvent("agent", "is missing")
            del members["agent"]
        return Item(str(members["id"]), values.dumps(members))


@dataclass(frozen=True, kw_only=True)
class Payment(Event):
    """One transition of a payment, as the agent claims it. Amounts are atomic units."""

    TYPE: ClassVar[str] = "payment"

    payment_id: Id
    status: PaymentStatus
    amount: Amount
    asset: str
    service: str
    request_id: Id | None = None
    x402_payment_id: str | None = None
    wallet: str | None = None
    session: Id | None = None
    pay_to: str | None = None
    resource: str | None = None
    facilitator: str | None = None
    signature: str | None = None
    slot: int | None = None
    commitment: Commitment | None = None
    confirmations: int | None = None
    fee_lamports: int | None = None
    retry_count: int | None = None
    backoff_ms: int | None = None
    error_type: ErrorType | None = None
    failure_reason: str | None = None
    facilitator_response: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ApiRequest(Event):
    """One attempt of a logical request."""

    TYPE: ClassVar[str] = "api_request"

    request_id: Id
    service: str
    outcome: Outcome
    attempt: int | None = None
    max_retries: int | None = None
    wallet: str | None = None
    session: Id | None = None
    endpoint_type: str | None = None
    resource: str | None = None
    method: str | None = None
    response_status: int | None = None
    x402_version: int | None = None
    payment_required: Mapping[str, Any] | None = None
    payment_id: Id | None = None
    paid: bool | None = None
    latency_ms: int | None = None
    backoff_ms: int | None = None
    component: str | None = None
    breaker_state: BreakerState | None = None
    error_type: ErrorType | None = None
    failure_reason: str | None = None
    request_digest: str | None = None
    response_digest: str | None = None
    response_bytes: int | None = None
    data_as_of: datetime | str | None = None


@dataclass(frozen=True, kw_only=True)
class Audit(Event):
    """Something that an operator may have to explain."""

    TYPE: ClassVar[str] = "audit"

    event_type: str
    severity: Severity | None = None
    component: str | None = None
    request_id: Id | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Queue(Event):
    """A request that was put off, taken up again or given up, and what the agent knew when it decided."""

    TYPE: ClassVar[str] = "queue"

    request_id: Id
    state: QueueState
    priority_score: float | None = None
    reason: QueueReason | None = None
    asset: str | None = None
    balance: Amount | None = None
    freshness_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Balance(Event):
    """One balance that the agent read."""

    TYPE: ClassVar[str] = "balance"

    wallet: str
    asset: str
    amount: Amount
    slot: int
    commitment: Commitment | None = None
    status: BalanceStatus | None = None
    reason: str | None = None


_NAME, _PLACE, _URL = values.text(100), values.text(300), values.text(2048, cut=True)
_SMALL, _MEDIUM, _LARGE = values.integer(2**15 - 1), values.integer(2**31 - 1), values.integer(2**63 - 1)
_ADDRESS = values.base58_of(32)

_MAKE: dict[str, values.Member] = {
    "agent": _NAME,
    "id": values.event_id,
    "network": values.network,
    "origin": values.choice(get_args(Origin)),
    "payment_id": values.uuid,
    "request_id": values.uuid,
    "session": values.uuid,
    "outcome": values.choice(get_args(Outcome)),
    "state": values.choice(get_args(QueueState)),
    "amount": values.amount,
    "balance": values.amount,
    "asset": _NAME,
    "service": _PLACE,
    "facilitator": _PLACE,
    "x402_payment_id": _PLACE,
    "entity_id": _PLACE,
    "resource": _URL,
    "wallet": _ADDRESS,
    "pay_to": _ADDRESS,
    "signature": values.base58_of(64),
    "slot": _LARGE,
    "fee_lamports": _LARGE,
    "backoff_ms": _LARGE,
    "latency_ms": _LARGE,
    "response_bytes": _LARGE,
    "freshness_s": _LARGE,
    "confirmations": _MEDIUM,
    "retry_count": _SMALL,
    "x402_version": _SMALL,
    "attempt": values.integer(2**15 - 1, 1),
    "max_retries": values.integer(2**15 - 2),
    "response_status": values.integer(999, 100),
    "commitment": values.choice(get_args(Commitment)),
    "breaker_state": values.choice(get_args(BreakerState)),
    "severity": values.choice(get_args(Severity)),
    "error_type": values.choice(get_args(ErrorType)),
    "failure_reason": values.prose,
    "facilitator_response": values.document,
    "metadata": values.document,
    "payment_required": values.document,
    "details": values.document,
    "endpoint_type": _NAME,
    "component": _NAME,
    "entity_type": _NAME,
    "method": values.text(20),
    "paid": values.flag,
    "request_digest": values.digest,
    "response_digest": values.digest,
    "data_as_of": values.time,
    "event_type": values.audit_type(AUDIT_TYPES),
    "priority_score": values.score,
}
_MAKE_BY_TYPE: dict[tuple[str, str], values.Member] = {
    ("payment", "status"): values.choice(get_args(PaymentStatus)),
    ("balance", "status"): values.choice(get_args(BalanceStatus)),
    ("balance", "reason"): values.prose,
    ("queue", "reason"): values.choice(get_args(QueueReason)),
}


KINDS: dict[str, type[Event]] = {kind.TYPE: kind for kind in (Payment, ApiRequest, Audit, Queue, Balance)}
"""Every kind of event by its type."""


@cache
def _members(event_type: str) -> tuple[tuple[str, values.Member, bool], ...]:
    """(name, how it is made, whether it must be there) of every member of this type."""
    optional = {field.name: field.default is None for field in fields(KINDS[event_type])}
    return tuple(
        (name, _MAKE_BY_TYPE.get((event_type, name)) or _MAKE[name], not may_miss)
        for name, may_miss in optional.items()
    )
