"""Retries that are told, and that do not pay twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from tollwatch.calls import Attempt, Call, kind_of
from tollwatch.events import Audit, ErrorType

T = TypeVar("T")

HOPELESS: frozenset[str] = frozenset({"insufficient_funds", "invalid_402", "session_limit", "session_expired", "other"})
"""Errors that another attempt would meet again."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Doubles from `first_s` to `max_s`, times 0.5 to 1.5 so that those who failed together do not return together."""

    first_s: float = 0.25
    max_s: float = 5.0
    dice: random.Random = field(default_factory=random.Random)

    def after(self, attempt: int) -> float:
        """Seconds to wait after this attempt, counted from 1."""
        return min(self.first_s * float(2 ** (attempt - 1)), self.max_s) * self.dice.uniform(0.5, 1.5)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt is no success."""

    error_type: ErrorType
    reason: str


def judge(result: object, error: BaseException | None, attempt: Attempt) -> Failure | None:
    """None for a success. What the transport saw goes first; then the exception; then the response's status."""
    if attempt.error_type is not None and (error is not None or attempt.status is None or attempt.status >= 400):
        return Failure(error_type=attempt.error_type, reason=attempt.reason or "")
    if error is not None:
        return Failure(error_type=kind_of(error), reason=f"{type(error).__name__}: {error}")
    if isinstance(result, httpx.Response) and result.is_error:
        kind: ErrorType = "upstream_error" if result.status_code >= 500 else "other"
        return Failure(error_type=kind, reason=f"HTTP {result.status_code}")
    return None


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """At most `max_retries` after the first attempt, and only where another could help and cannot pay twice.

    An unknown payment may yet settle, so it is never repeated; one that settled and brought nothing only with
    `pays_again`. `judge` (result, error, attempt) says whether an attempt failed, and of what.
    """

    max_retries: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    pays_again: bool = False
    judge: Callable[[Any, BaseException | None, Attempt], Failure | None] = judge

    def repeats(self, attempt: Attempt, failure: Failure) -> bool:
        """Whether there is to be another attempt."""
        if attempt.number > self.max_retries or failure.error_type in HOPELESS:
            return False
        payment = attempt.payment
        return payment is None or payment.status == "failed" or (payment.status == "settled" and self.pays_again)


class Retries:
    """The attempts of a call: `begin` each, then say how it went; `after` answers how long to wait for the next."""

    def __init__(self, call: Call, policy: RetryPolicy) -> None:
        self._call = call
        self._policy = policy

    def begin(self) -> Attempt:
        """The next attempt."""
        return self._call.begin()

    def after(self, result: object = None, error: BaseException | None = None) -> float | None:
        """Seconds until the next attempt; None when it is over. Tells the attempt either way."""
        attempt = self._call.attempt
        assert attempt is not None
        failure = self._policy.judge(result, error, attempt)
        if failure is None:
            attempt.error_type = attempt.reason = None
            self._conclude(attempt)
            return None
        attempt.fail(failure.error_type, failure.reason)
        if not self._policy.repeats(attempt, failure):
            self._conclude(attempt)
            return None
        wait_s = self._policy.backoff.after(attempt.number)
        attempt.tell("retrying", wait_s)
        return wait_s

    def abandon(self) -> None:
        """The agent stops in the middle of an attempt."""
        attempt = self._call.attempt
        if attempt is not None and not attempt.told:
            attempt.fail("other", "abandoned: the agent stops")
            attempt.tell("failed")

    def _conclude(self, last: Attempt) -> None:
        last.tell("failed" if last.error_type else "ok")
        if last.number == 1:
            return
        call, details = self._call, {"attempts": last.number, "payments": self._call.payments}
        if last.error_type is None:
            self._tell("retry_success", call, details)
        elif last.number > self._policy.max_retries:
            self._tell("retry_exhausted", call, {**details, "error_type": last.error_type})

    def _tell(self, event_type: str, call: Call, details: dict[str, Any]) -> None:
        call.sink.record(
            Audit(
                event_type=event_type,
                severity="error" if event_type == "retry_exhausted" else "info",
                component=call.about.component,
                request_id=call.request_id,
                details=details,
            )
        )


def retry(
    call: Call,
    act: Callable[[Attempt], T],
    policy: RetryPolicy | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> T:
    """Do `act` until it succeeds or is not to be repeated; its last result, or its last exception."""
    tries = Retries(call, policy or RetryPolicy())
    while True:
        attempt = tries.begin()
        try:
            result = act(attempt)
        except Exception as exc:
            wait_s = tries.after(error=exc)
            if wait_s is None:
                raise
        except BaseException:
            tries.abandon()
            raise
        else:
            wait_s = tries.after(result)
            if wait_s is None:
                return result
        sleep(wait_s)


async def retry_async(
    call: Call,
    act: Callable[[Attempt], Awaitable[T]],
    policy: RetryPolicy | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """As `retry`, awaited."""
    tries = Retries(call, policy or RetryPolicy())
    while True:
        attempt = tries.begin()
        try:
            result = await act(attempt)
        except Exception as exc:
            wait_s = tries.after(error=exc)
            if wait_s is None:
                raise
        except BaseException:
            tries.abandon()
            raise
        else:
            wait_s = tries.after(result)
            if wait_s is None:
                return result
        await sleep(wait_s)
