"""Rows that readers return: frozen values with names in place of internal ids.

Times are aware datetimes, UTC. Amounts are integers of atomic units. Addresses, signatures and digests are raw bytes,
except a wallet's, which is stored as text too. JSON columns hold encoded JSON text. Internal ids are there where a
page's position is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of an answer."""

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Self:
        """The value of a database row whose columns are the fields."""
        return cls(**row)


class Summed(Row, frozen=True, kw_only=True):
    """A row with sums."""

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Self:
        """Sums come as `numeric`, and are whole."""
        whole: dict[str, Any] = {k: int(v) if type(v) is Decimal else v for k, v in row.items()}
        return cls(**whole)


class Agent(Row, frozen=True, kw_only=True):
    """A program that pays. `low_balance_threshold` is in whole tokens."""

    agent_id: int
    agent: str
    autonomy_phase: str
    network: str
    api_endpoints: str
    priority_rules: str
    max_retries: int
    low_balance_threshold: Decimal
    breaker_timeout_s: int
    active: bool
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class Threshold(Row, frozen=True, kw_only=True):
    """Below this amount a wallet's balance of an asset is low."""

    asset: str
    amount: int


class Wallet(Row, frozen=True, kw_only=True):
    """An address that an agent spends from, and the thresholds that are its own."""

    address: str
    network: str
    registered: bool
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    thresholds: tuple[Threshold, ...]


class LatestBalance(Row, frozen=True, kw_only=True):
    """The newest balance of one wallet and asset, by slot."""

    wallet_id: int
    asset_id: int
    agent: str
    network: str
    wallet: str
    asset: str
    ts: datetime
    amount: int
    threshold: int | None
    slot: int
    commitment: str
    status: str
    reason: str | None


class Sample(Row, frozen=True, kw_only=True):
    """One balance reading."""

    wallet_id: int
    asset_id: int
    ts: datetime
    agent: str
    network: str
    wallet: str
    asset: str
    amount: int
    slot: int
    commitment: str
    threshold: int | None
    status: str
    reason: str | None
    origin: str
    recorded_at: datetime


class Transition(Row, frozen=True, kw_only=True):
    """One transition of a payment."""

    ts: datetime
    id: UUID
    payment_id: UUID
    request_id: UUID | None
    x402_payment_id: str | None
    agent: str
    wallet: str | None
    session_id: UUID | None
    status: str
    amount: int
    asset: str
    network: str
    pay_to: bytes | None
    service: str
    resource: str | None
    facilitator: str | None
    signature: bytes | None
    slot: int | None
    commitment: str | None
    confirmations: int | None
    fee_lamports: int | None
    retry_count: int
    backoff_ms: int
    is_duplicate: bool
    error_type: str | None
    failure_reason: str | None
    facilitator_response: str | None
    metadata: str | None
    origin: str
    recorded_at: datetime


class PaymentHead(Row, frozen=True, kw_only=True):
    """Present state of a payment: its highest-ranking transition. `opened_ts`: its first."""

    payment_id: UUID
    agent: str
    asset: str
    network: str
    amount: int
    status: str
    origin: str
    ts: datetime
    opened_ts: datetime


class Attempt(Row, frozen=True, kw_only=True):
    """One attempt of a logical request."""

    ts: datetime
    id: UUID
    request_id: UUID
    attempt: int
    max_retries: int
    agent: str
    wallet: str | None
    session_id: UUID | None
    service: str
    endpoint_type: str | None
    resource: str | None
    method: str | None
    response_status: int | None
    x402_version: int | None
    payment_required: str | None
    payment_id: UUID | None
    paid: bool
    latency_ms: int | None
    backoff_ms: int
    component: str | None
    breaker_state: str | None
    outcome: str
    error_type: str | None
    failure_reason: str | None
    request_digest: bytes | None
    response_digest: bytes | None
    response_bytes: int | None
    data_as_of: datetime | None
    origin: str
    recorded_at: datetime


class AuditEntry(Row, frozen=True, kw_only=True):
    """One audit event, and who dealt with it; `resolution` is that person's note, `automatic`: no person did."""

    ts: datetime
    id: UUID
    event_type: str
    severity: str
    agent: str | None
    component: str | None
    request_id: UUID | None
    entity_type: str | None
    entity_id: str | None
    details: str | None
    origin: str
    recorded_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None
    automatic: bool | None


class Breaker(Row, frozen=True, kw_only=True):
    """Present state of a circuit breaker; `ts`: since when."""

    agent_id: int
    agent: str
    network: str
    component: str
    state: str
    ts: datetime
    event_id: UUID
