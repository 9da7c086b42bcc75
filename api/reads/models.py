"""What reads answer, for the documentation and, by `fields.write`, for the answers themselves.

Fields bear the names of the columns. In a list, `next` is the cursor of the next page, or null.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field

from api.reads.fields import Address, Amount, Digest, Instant, Json, JsonArray, JsonObject, Signature, Tokens
from store.settings import SOLANA_MAINNET

I = TypeVar("I", bound=BaseModel)  # noqa: E741 (an item)

AgentName = Annotated[str, Field(examples=["researcher"])]
Network = Annotated[str, Field(description="CAIP-2", examples=[SOLANA_MAINNET])]
WalletAddress = Annotated[str, Field(description="Address", examples=["9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"])]
Asset = Annotated[str, Field(description="Symbol; the mint of one that nobody registered", examples=["USDC"])]
Service = Annotated[str, Field(description="Origin of a paid API", examples=["https://api.example.com"])]


class Page(BaseModel, Generic[I]):
    """One page of a list."""

    items: list[I]
    next: str | None = Field(description="Cursor of the next page; null: this is the last one")


class AgentItem(BaseModel):
    """A program that pays."""

    agent: AgentName
    autonomy_phase: str
    network: Network
    api_endpoints: JsonArray
    priority_rules: JsonObject
    max_retries: int
    low_balance_threshold: Tokens
    breaker_timeout_s: int
    active: bool
    created_at: Instant
    updated_at: Instant
    archived_at: Instant | None


class ThresholdItem(BaseModel):
    """A wallet's own threshold for one asset."""

    asset: Asset
    amount: Amount


class WalletItem(BaseModel):
    """An address that the agent spends from."""

    address: WalletAddress
    network: Network
    registered: bool
    created_at: Instant
    updated_at: Instant
    archived_at: Instant | None
    thresholds: list[ThresholdItem]


class AgentDetail(AgentItem):
    """A program that pays, and its wallets."""

    wallets: list[WalletItem]


class BalanceItem(BaseModel):
    """The newest balance of one wallet and asset, by slot."""

    agent: AgentName
    network: Network
    wallet: WalletAddress
    asset: Asset
    ts: Instant
    amount: Amount
    threshold: Amount | None
    slot: int
    commitment: str
    status: str
    reason: str | None


class SampleItem(BaseModel):
    """One balance reading."""

    ts: Instant
    agent: AgentName
    network: Network
    wallet: WalletAddress
    asset: Asset
    amount: Amount
    slot: int
    commitment: str
    threshold: Amount | None
    status: str
    reason: str | None
    origin: str
    recorded_at: Instant


class PaymentItem(BaseModel):
    """One transition of a payment."""

    ts: Instant
    id: UUID
    payment_id: UUID
    request_id: UUID | None
    x402_payment_id: str | None
    agent: AgentName
    wallet: WalletAddress | None
    session_id: UUID | None
    status: str
    amount: Amount
    asset: Asset
    network: Network
    pay_to: Address | None
    service: Service
    resource: str | None
    facilitator: str | None
    signature: Signature | None
    slot: int | None
    commitment: str | None
    confirmations: int | None
    fee_lamports: Amount | None
    retry_count: int
    backoff_ms: int
    is_duplicate: bool
    error_type: str | None
    failure_reason: str | None
    facilitator_response: Json
    metadata: JsonObject | None
    origin: str
    recorded_at: Instant


class PaymentDetail(BaseModel):
    """Present state of a payment, and its transitions, oldest first, repeats too."""

    payment_id: UUID
    agent: AgentName
    asset: Asset
    network: Network
    amount: Amount
    status: str
    origin: str
    ts: Instant
    opened_ts: Instant
    transitions: list[PaymentItem]


class RequestItem(BaseModel):
    """One attempt of a request."""

    ts: Instant
    id: UUID
    request_id: UUID
    attempt: int
    max_retries: int
    agent: AgentName
    wallet: WalletAddress | None
    session_id: UUID | None
    service: Service
    endpoint_type: str | None
    resource: str | None
    method: str | None
    response_status: int | None
    x402_version: int | None
    payment_required: Json
    payment_id: UUID | None
    paid: bool
    latency_ms: int | None
    backoff_ms: int
    component: str | None
    breaker_state: str | None
    outcome: str
    error_type: str | None
    failure_reason: str | None
    request_digest: Digest | None
    response_digest: Digest | None
    response_bytes: int | None
    data_as_of: Instant | None
    origin: str
    recorded_at: Instant


class AuditItem(BaseModel):
    """One audit event."""

    ts: Instant
    id: UUID
    event_type: str
    severity: str
    agent: AgentName | None
    component: str | None
    request_id: UUID | None
    entity_type: str | None
    entity_id: str | None
    details: Json
    origin: str
    recorded_at: Instant
    resolved_at: Instant | None
    resolved_by: str | None
    resolution: str | None = Field(description="The note of who resolved it")
    automatic: bool | None = Field(description="Resolved by a later event, and not by a person")


class BreakerItem(BaseModel):
    """Present state of a circuit breaker; `ts`: since when."""

    agent: AgentName
    network: Network
    component: str
    state: str
    ts: Instant
    event_id: UUID
