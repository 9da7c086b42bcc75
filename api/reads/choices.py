"""What a parameter may be: names, and choices among the words of the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from store.tables import (
    BALANCE_STATUSES,
    BREAKER_STATES,
    ERROR_TYPES,
    ORIGINS,
    OUTCOMES,
    PAYMENT_STATUSES,
    QUEUE_REASONS,
    QUEUE_STATES,
    SESSION_STATUSES,
    SEVERITIES,
)

PAYMENT_GROUPS = ("agent", "asset", "service", "status", "origin")
REQUEST_GROUPS = ("agent", "service", "outcome")
SPEND_GROUPS = ("agent", "asset", "service")
RETRY_GROUPS = ("agent", "service")
TRAIL_KINDS = ("request", "audit", "queue")


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


def _any_of(names: tuple[str, ...]) -> str:
    always = "; `asset` is always among them" if "asset" in names else ""
    return f"Any of {', '.join(names)}, separated by commas{always}"


Name = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(_without_nul)]
Origin = Annotated[str, AfterValidator(_member_of(ORIGINS)), _choice(ORIGINS)]
PaymentStatus = Annotated[str, AfterValidator(_member_of(PAYMENT_STATUSES)), _choice(PAYMENT_STATUSES)]
BalanceStatus = Annotated[str, AfterValidator(_member_of(BALANCE_STATUSES)), _choice(BALANCE_STATUSES)]
SessionStatus = Annotated[str, AfterValidator(_member_of(SESSION_STATUSES)), _choice(SESSION_STATUSES)]
Outcome = Annotated[str, AfterValidator(_member_of(OUTCOMES)), _choice(OUTCOMES)]
ErrorType = Annotated[str, AfterValidator(_member_of(ERROR_TYPES)), _choice(ERROR_TYPES)]
Severity = Annotated[str, AfterValidator(_member_of(SEVERITIES)), _choice(SEVERITIES)]
BreakerState = Annotated[str, AfterValidator(_member_of(BREAKER_STATES)), _choice(BREAKER_STATES)]
QueueState = Annotated[str, AfterValidator(_member_of(QUEUE_STATES)), _choice(QUEUE_STATES)]
QueueReason = Annotated[str, AfterValidator(_member_of(QUEUE_REASONS)), _choice(QUEUE_REASONS)]
TrailKind = Annotated[str, AfterValidator(_member_of(TRAIL_KINDS)), _choice(TRAIL_KINDS)]
PaymentGroups = Annotated[str, AfterValidator(_members_of(PAYMENT_GROUPS)), Field(description=_any_of(PAYMENT_GROUPS))]
RequestGroups = Annotated[str, AfterValidator(_members_of(REQUEST_GROUPS)), Field(description=_any_of(REQUEST_GROUPS))]
SpendGroups = Annotated[str, AfterValidator(_members_of(SPEND_GROUPS)), Field(description=_any_of(SPEND_GROUPS))]
RetryGroups = Annotated[str, AfterValidator(_members_of(RETRY_GROUPS)), Field(description=_any_of(RETRY_GROUPS))]
