"""The events that agents send: one struct per type, which is also the JSON Schema of `/v1/schemas/{type}`.

Members bear the column names of docs/glossary.md, with names, symbols and addresses in place of internal ids. Null and
absent are the same; a member that is not here is refused, so that a typing error cannot pass in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from store.facts import MAX_AMOUNT
from store.tables import (
    AUDIT_TYPES,
    BALANCE_STATUSES,
    BREAKER_STATES,
    COMMITMENTS,
    ERROR_TYPES,
    OUTCOMES,
    PAYMENT_STATUSES,
    QUEUE_REASONS,
    QUEUE_STATES,
    SEVERITIES,
)

MAX_JSON_BYTES = 8192
"""Largest encoded object of `metadata`, `details`, `facilitator_response` and `payment_required`."""
MAX_JSON_DEPTH = 16

_END = r"(?![\s\S])"  # `$` lets a newline pass
_INT2, _INT4, _INT8 = 2**15 - 1, 2**31 - 1, 2**63 - 1

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Place = Annotated[str, Meta(min_length=1, max_length=300)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Reason = Annotated[str, Meta(max_length=1000)]
Address = Annotated[str, Meta(min_length=1, max_length=100, description="Base58 address of 32 bytes.")]
Network = Annotated[
    str,
    Meta(pattern=rf"^solana:[-_a-zA-Z0-9]{{1,32}}{_END}", description="CAIP-2 id; default: the agent's network."),
]
Asset = Annotated[str, Meta(min_length=1, max_length=100, description="Symbol such as USDC, or the address of a mint.")]
Time = Annotated[
    str,
    Meta(
        max_length=2048,
        description="RFC 3339 with an offset; cut to milliseconds.",
        extra_json_schema={"format": "date-time"},
    ),
]
Amount = Annotated[int | str, Meta(description="Atomic units: an integer of 0 to 2^63 − 1, or a string of its digits.")]
AMOUNT_FORMS = [
    {"type": "integer", "minimum": 0, "maximum": MAX_AMOUNT},
    {"type": "string", "pattern": "^(0|[1-9][0-9]{0,18})$"},
]
"""JSON Schema of an Amount; msgspec has none for a union of texts of a form."""
AMOUNTS = ("amount", "balance")
"""The members that are one."""
Digest = Annotated[
    str,
    Meta(
        min_length=64,
        max_length=64,
        description="SHA-256, 64 hexadecimal digits.",
        # Told and not checked here: api.resolve makes bytes of the digits anyway, and a pattern is slow.
        extra_json_schema={"pattern": rf"^[0-9a-fA-F]{{64}}{_END}"},
    ),
]
Small = Annotated[int, Meta(ge=0, le=_INT2)]
Medium = Annotated[int, Meta(ge=0, le=_INT4)]
Large = Annotated[int, Meta(ge=0, le=_INT8)]
Milliseconds = Annotated[int, Meta(ge=0, le=_INT8, description="Milliseconds.")]
Json = Annotated[
    msgspec.Raw | msgspec.UnsetType,
    Meta(
        description=f"An object, at most {MAX_JSON_BYTES} bytes encoded and {MAX_JSON_DEPTH} levels deep.",
        extra_json_schema={"type": ["object", "null"]},
    ),
]
AuditType = Annotated[
    str,
    Meta(
        pattern=rf"^({'|'.join(AUDIT_TYPES)}|x\.[A-Za-z0-9_.-]{{1,98}}){_END}",
        description="One of Tollwatch's, or the agent's own `x.…`.",
    ),
]


if TYPE_CHECKING:
    PaymentStatus: TypeAlias = str
    Outcome: TypeAlias = str
    ErrorType: TypeAlias = str
    Commitment: TypeAlias = str
    BreakerState: TypeAlias = str
    Severity: TypeAlias = str
    BalanceStatus: TypeAlias = str
    QueueState: TypeAlias = str
    QueueReason: TypeAlias = str
else:
    PaymentStatus = Literal[PAYMENT_STATUSES]
    Outcome = Literal[OUTCOMES]
    ErrorType = Literal[ERROR_TYPES]
    Commitment = Literal[COMMITMENTS]
    BreakerState = Literal[BREAKER_STATES]
    Severity = Literal[SEVERITIES]
    BalanceStatus = Literal[BALANCE_STATUSES]
    QueueState = Literal[QUEUE_STATES]
    QueueReason = Literal[QUEUE_REASONS]


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="type",
    gc=False,
):
    """What every event has. Encoded again it has the members that were sent, without those that say nothing."""

    id: Annotated[UUID, Meta(description="UUIDv7 of the event's time; other versions need `ts`. A resend keeps it.")]
    ts: Time | None = None
    network: Network | None = None
    origin: Annotated[
        Literal["agent", "facilitator"],
        Meta(description="Who says so; `facilitator` needs a key with the scope ingest:facilitator."),
    ] = "agent"


class Payment(Event, frozen=True, kw_only=True, tag="payment"):
    """One transition of a payment, as an agent or a facilitator claims it."""

    agent: Annotated[Name, Meta(description="Name of a registered agent.")]
    payment_id: Annotated[UUID, Meta(description="The payment that these transitions belong to.")]
    status: Annotated[PaymentStatus, Meta(description="What the payment became.")]
    amount: Amount
    asset: Asset
    service: Annotated[Place, Meta(description="The paid origin, such as https://api.example.com.")]
    request_id: Annotated[UUID | None, Meta(description="The logical request that was paid for.")] = None
    x402_payment_id: Annotated[Place | None, Meta(description="The payment's id in the x402 exchange.")] = None
    wallet: Annotated[Address | None, Meta(description="Address that pays.")] = None
    session: Annotated[UUID | None, Meta(description="The wallet session in use.")] = None
    pay_to: Annotated[Address | None, Meta(description="Address that is paid.")] = None
    resource: Annotated[Url | None, Meta(description="The URL that was bought.")] = None
    facilitator: Annotated[Place | None, Meta(description="Who verifies and settles.")] = None
    signature: Annotated[
        Annotated[str, Meta(min_length=1, max_length=100)] | None,
        Meta(description="Signature of the settling transaction, base58, 64 bytes."),
    ] = None
    slot: Annotated[Large | None, Meta(description="Slot of the transaction.")] = None
    commitment: Annotated[Commitment | None, Meta(description="How final the transaction is.")] = None
    confirmations: Annotated[Medium | None, Meta(description="Blocks on top of it.")] = None
    fee_lamports: Annotated[Large | None, Meta(description="Fee of the transaction, in lamports.")] = None
    retry_count: Annotated[Small | None, Meta(description="Retries so far.")] = None
    backoff_ms: Milliseconds | None = None
    error_type: Annotated[ErrorType | None, Meta(description="Class of what went wrong.")] = None
    failure_reason: Annotated[Reason | None, Meta(description="What went wrong, in words.")] = None
    facilitator_response: Json = msgspec.UNSET
    metadata: Json = msgspec.UNSET


class ApiRequest(Event, frozen=True, kw_only=True, tag="api_request"):
    """One attempt of a logical request to a paid API. Bodies stay where they are: send their digests."""

    agent: Annotated[Name, Meta(description="Name of a registered agent.")]
    request_id: Annotated[UUID, Meta(description="The logical request that its attempts share.")]
    service: Annotated[Place, Meta(description="The paid origin, such as https://api.example.com.")]
    outcome: Annotated[Outcome, Meta(description="How the attempt ended.")]
    attempt: Annotated[
        Annotated[int, Meta(ge=1, le=_INT2)] | None, Meta(description="From 1 to max_retries + 1; default 1.")
    ] = None
    max_retries: Annotated[
        Annotated[int, Meta(ge=0, le=_INT2 - 1)] | None, Meta(description="Default: the agent's.")
    ] = None
    wallet: Annotated[Address | None, Meta(description="Address that would pay.")] = None
    session: Annotated[UUID | None, Meta(description="The wallet session in use.")] = None
    endpoint_type: Annotated[Name | None, Meta(description="The agent's name for this kind of endpoint.")] = None
    resource: Annotated[Url | None, Meta(description="The URL that was asked for.")] = None
    method: Annotated[Annotated[str, Meta(min_length=1, max_length=20)] | None, Meta(description="HTTP method.")] = None
    response_status: Annotated[
        Annotated[int, Meta(ge=100, le=999)] | None, Meta(description="HTTP status of the answer.")
    ] = None
    x402_version: Annotated[Small | None, Meta(description="Version of x402 in the answer.")] = None
    payment_required: Json = msgspec.UNSET
    payment_id: Annotated[UUID | None, Meta(description="The payment made for it.")] = None
    paid: Annotated[bool | None, Meta(description="Whether the agent holds it for paid.")] = None
    latency_ms: Milliseconds | None = None
    backoff_ms: Milliseconds | None = None
    component: Annotated[Name | None, Meta(description="What the circuit breaker guards.")] = None
    breaker_state: Annotated[BreakerState | None, Meta(description="The breaker's state at the attempt.")] = None
    error_type: Annotated[ErrorType | None, Meta(description="Class of what went wrong.")] = None
    failure_reason: Annotated[Reason | None, Meta(description="What went wrong, in words.")] = None
    request_digest: Digest | None = None
    response_digest: Digest | None = None
    response_bytes: Annotated[Large | None, Meta(description="Size of the answer's body.")] = None
    data_as_of: Annotated[Time | None, Meta(description="The time that the bought data is about.")] = None


class Audit(Event, frozen=True, kw_only=True, tag="audit"):
    """Something that an operator may have to explain."""

    event_type: AuditType
    agent: Annotated[Name | None, Meta(description="Name of a registered agent.")] = None
    severity: Annotated[Severity | None, Meta(description="Default: info.")] = None
    component: Annotated[Name | None, Meta(description="What the circuit breaker guards.")] = None
    request_id: Annotated[UUID | None, Meta(description="The logical request that it is about.")] = None
    entity_type: Annotated[Name | None, Meta(description="What entity_id is an id of.")] = None
    entity_id: Annotated[Place | None, Meta(description="What it is about.")] = None
    details: Json = msgspec.UNSET


class Queue(Event, frozen=True, kw_only=True, tag="queue"):
    """A request that an agent put off, took up again or gave up, and what it knew when it decided."""

    agent: Annotated[Name, Meta(description="Name of a registered agent.")]
    request_id: Annotated[UUID, Meta(description="The logical request that waits, or waited.")]
    state: Annotated[QueueState, Meta(description="What became of it.")]
    priority_score: Annotated[float | None, Meta(description="What it is worth to the agent; higher goes first.")] = (
        None
    )
    reason: Annotated[QueueReason | None, Meta(description="What it waits for, or was given up for.")] = None
    asset: Annotated[Asset | None, Meta(description="What balance is of: a symbol, or the address of a mint.")] = None
    balance: Annotated[Amount | None, Meta(description="What the wallet had, in atomic units like amount.")] = None
    freshness_s: Annotated[Large | None, Meta(description="Age of what it is based on, in seconds.")] = None


class Balance(Event, frozen=True, kw_only=True, tag="balance"):
    """One balance that an agent read. One per wallet, asset and millisecond is kept."""

    agent: Annotated[Name, Meta(description="Name of a registered agent.")]
    wallet: Annotated[Address, Meta(description="Address whose balance it is.")]
    asset: Asset
    amount: Amount
    slot: Annotated[Large, Meta(description="Slot that the balance was read at.")]
    commitment: Annotated[Commitment | None, Meta(description="Default: confirmed.")] = None
    status: Annotated[BalanceStatus | None, Meta(description="Default: by the threshold in force.")] = None
    reason: Annotated[Reason | None, Meta(description="Why the balance is what it is.")] = None


AnyEvent = Payment | ApiRequest | Audit | Queue | Balance
EVENT_TYPES: dict[str, type[Event]] = {
    "payment": Payment,
    "api_request": ApiRequest,
    "audit": Audit,
    "queue": Queue,
    "balance": Balance,
}
