"""What each read may be asked: its query parameters. Unknown ones are refused, so that no filter is lost in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from api.reads.ranges import Moment
from store.tables import BALANCE_STATUSES, BREAKER_STATES, ERROR_TYPES, ORIGINS, OUTCOMES, PAYMENT_STATUSES, SEVERITIES

PAYMENT_GROUPS = ("agent", "asset", "service", "status", "origin")
REQUEST_GROUPS = ("agent", "service", "outcome")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("no NUL character")
    return text


def _member_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return text

    return check


def _members_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def check(text: str) -> str:
        for name in filter(None, text.split(",")):
            if name not in names:
                raise ValueError(f"a comma-separated choice of {', '.join(names)}")
        return text

    return check


def _choice(names: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(names)})


Name = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(_without_nul)]
Origin = Annotated[str, AfterValidator(_member_of(ORIGINS)), _choice(ORIGINS)]
PaymentStatus = Annotated[str, AfterValidator(_member_of(PAYMENT_STATUSES)), _choice(PAYMENT_STATUSES)]
BalanceStatus = Annotated[str, AfterValidator(_member_of(BALANCE_STATUSES)), _choice(BALANCE_STATUSES)]
Outcome = Annotated[str, AfterValidator(_member_of(OUTCOMES)), _choice(OUTCOMES)]
ErrorType = Annotated[str, AfterValidator(_member_of(ERROR_TYPES)), _choice(ERROR_TYPES)]
Severity = Annotated[str, AfterValidator(_member_of(SEVERITIES)), _choice(SEVERITIES)]
BreakerState = Annotated[str, AfterValidator(_member_of(BREAKER_STATES)), _choice(BREAKER_STATES)]
PaymentGroups = Annotated[
    str,
    AfterValidator(_members_of(PAYMENT_GROUPS)),
    Field(description=f"Any of {', '.join(PAYMENT_GROUPS)}, separated by commas; `asset` is always among them"),
]
RequestGroups = Annotated[
    str,
    AfterValidator(_members_of(REQUEST_GROUPS)),
    Field(description=f"Any of {', '.join(REQUEST_GROUPS)}, separated by commas"),
]


class Question(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(100, ge=1, description="Most items of the answer; TOLLWATCH_MAX_PAGE bounds it")
    cursor: str | None = Field(None, description="`next` of the page before; send it with the same parameters")


class RangeQuestion(Question):
    """What lists of facts take: a range of time too."""

    from_: Moment | None = Field(None, alias="from", description="Belongs to the range; default: 24 h before its end")
    to: Moment | None = Field(None, description="Does not belong to the range; default: now, and what lies ahead of it")


class AgentsQuestion(Question):
    """Agents."""


class BalancesQuestion(Question):
    """Newest balances."""

    agent: Name | None = None
    wallet: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    status: BalanceStatus | None = None


class BalanceHistoryQuestion(RangeQuestion):
    """Samples, or hours of them."""

    bucket: Literal["1h"] | None = Field(None, description="Hours in place of samples")
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
    """Payments per hour."""

    group_by: PaymentGroups = "asset,status"
    agent: Name | None = None
    asset: Name | None = Field(None, description="Symbol or mint")
    status: PaymentStatus | None = None
    origin: Origin | None = None
    service: Name | None = None


class RequestsHourlyQuestion(RangeQuestion):
    """Attempts per hour."""

    group_by: RequestGroups = "outcome"
    agent: Name | None = None
    outcome: Outcome | None = None
    service: Name | None = None


class BreakersQuestion(Question):
    """Circuit breakers."""

    agent: Name | None = None
    component: Name | None = None
    state: BreakerState | None = None
