"""What each read may be asked: its query parameters. Unknown ones are refused, so that no filter is lost in silence."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.reads.choices import (
    BalanceStatus,
    BreakerState,
    ErrorType,
    Name,
    Origin,
    Outcome,
    PaymentGroups,
    PaymentStatus,
    QueueReason,
    QueueState,
    RequestGroups,
    RetryGroups,
    SessionStatus,
    Severity,
    SpendGroups,
    TrailKind,
)
from api.reads.ranges import Moment

BucketSize = Literal["1h", "1d"]


class Question(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(100, ge=1, description="Most items of the answer; TOLLWATCH_MAX_PAGE bounds it")
    cursor: str | None = Field(None, description="`next` of the page before; send it with the same parameters")


class RangeQuestion(Question):
    """What lists of facts take: a range of time too."""

    from_: Moment | None = Field(
        None, alias="from", description="Belongs to the range; default: 24 h before its end, 30 d with `bucket=1d`"
    )
    to: Moment | None = Field(None, description="Does not belong to the range; default: now, and what lies ahead of it")


class HistoryQuestion(RangeQuestion):
    """Present state, or what led to it."""

    history: bool = Field(False, description="A range of time in place of present state; `from` and `to` imply it")

    @property
    def is_history(self) -> bool:
        """Whether a range is asked for."""
        return self.history or self.from_ is not None or self.to is not None


class AgentsQuestion(Question):
    """Agents."""


class BalancesQuestion(Question):
    """Newest balances."""

    agent: Name | None = None
    wallet: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    status: BalanceStatus | None = None


class BalanceHistoryQuestion(RangeQuestion):
    """Samples, or hours or days of them."""

    bucket: BucketSize | None = Field(None, description="Hours or days in place of samples")
    agent: Name | None = None
    wallet: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    status: BalanceStatus | None = Field(None, description="Samples only")


class PaymentsQuestion(RangeQuestion):
    """Transitions of payments."""

    agent: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    status: PaymentStatus | None = None
    origin: Origin | None = None
    service: Name | None = None
    payment_id: UUID | None = None
    request_id: UUID | None = None
    signature: Name | None = Field(None, description="Of the transaction, base58")
    duplicates: bool = Field(False, description="Repeats too: statuses that the payment was told before")


class RequestsQuestion(RangeQuestion):
    """Attempts of requests."""

    agent: Name | None = None
    outcome: Outcome | None = None
    origin: Origin | None = None
    service: Name | None = None
    component: Name | None = None
    error_type: ErrorType | None = None
    request_id: UUID | None = None
    payment_id: UUID | None = None


class AuditQuestion(RangeQuestion):
    """Audit events."""

    agent: Name | None = None
    event_type: Name | None = None
    severity: Severity | None = None
    origin: Origin | None = None
    component: Name | None = None
    request_id: UUID | None = None
    entity_type: Name | None = None
    entity_id: Name | None = None


class PaymentsHourlyQuestion(RangeQuestion):
    """Payments per hour or day."""

    bucket: BucketSize = "1h"
    group_by: PaymentGroups = "asset,status"
    agent: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    status: PaymentStatus | None = None
    origin: Origin | None = None
    service: Name | None = None


class RequestsHourlyQuestion(RangeQuestion):
    """Attempts per hour or day."""

    bucket: BucketSize = "1h"
    group_by: RequestGroups | None = Field(None, description="Default: outcome; with `quantiles` nothing")
    quantiles: bool = Field(False, description="Median, 95th and 99th percentile of the latency; not by outcome")
    agent: Name | None = None
    outcome: Outcome | None = None
    service: Name | None = None


class SpendQuestion(RangeQuestion):
    """What was bought from whom."""

    bucket: BucketSize = "1h"
    group_by: SpendGroups = "asset,service"
    agent: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    service: Name | None = None


class RetryHealthQuestion(RangeQuestion):
    """What retries and breakers cost and save."""

    bucket: Literal["1h", "total"] = Field("1h", description="Hours, or one figure for the whole range")
    group_by: RetryGroups = "agent,service"
    agent: Name | None = None
    asset: Name | None = Field(None, description="Of the amounts: symbol or mint")
    service: Name | None = None


class BreakersQuestion(HistoryQuestion):
    """Circuit breakers."""

    agent: Name | None = None
    component: Name | None = None
    state: BreakerState | None = None


class TrailQuestion(RangeQuestion):
    """The ledger."""

    agent: Name | None = None
    kind: TrailKind | None = None
    severity: Severity | None = None
    request_id: UUID | None = None


class QueueQuestion(HistoryQuestion):
    """Requests that were put off."""

    agent: Name | None = None
    reason: QueueReason | None = None
    request_id: UUID | None = None
    state: QueueState | None = Field(None, description="History only: what waits now is `queued`")


class SessionsQuestion(Question):
    """Wallet sessions."""

    agent: Name | None = None
    wallet: Name | None = None
    status: SessionStatus | None = None


class RunwayQuestion(BalancesQuestion):
    """How long the money lasts."""
