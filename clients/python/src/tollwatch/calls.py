"""A logical request and its attempts: what the transport sees and the agent knows of one purchase, and its events.

A `Call` is one thing wanted. Each `Attempt` is one try: the challenge, the payment and the answer together. An attempt
becomes one `api_request` event, when it is known what came of it; the payment's transitions are told as they happen.
"""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from tollwatch.errors import BreakerOpen
from tollwatch.events import ApiRequest, Audit, BreakerState, ErrorType, Event, Outcome, Payment, PaymentStatus
from tollwatch.x402 import Offer, Paying, Settlement, Terms, error_of, without_secrets

if TYPE_CHECKING:
    from tollwatch.breaker import CircuitBreaker

EXTENSION = "tollwatch.call"
"""The httpx request extension that names the call of a request, where a `with` statement would not do."""

current_call: ContextVar[Call | None] = ContextVar("tollwatch_call", default=None)


class Sink(Protocol):
    """Where events go: a Recorder, or what stands before one."""

    def record(self, event: Event) -> str:
        """Keep an event; its id. Never raises."""

    def new_id(self) -> str:
        """A UUID of version 7."""

    def fault(self, error: BaseException) -> None:
        """Something of this library failed."""

    def skip(self, reason: str) -> None:
        """Something was seen that no event can tell."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What the agent knows of a request and the transport does not see. All of it is optional.

    `service` is the paid origin (default: the URL's), `facilitator` who settles (default: the fee payer in the terms),
    `wallet` who pays (default: who signed). `component` is what a circuit breaker guards.
    """

    service: str | None = None
    resource: str | None = None
    method: str | None = None
    endpoint_type: str | None = None
    component: str | None = None
    breaker_state: BreakerState | None = None
    max_retries: int | None = None
    wallet: str | None = None
    session: str | None = None
    facilitator: str | None = None


class PaymentMade:
    """One payment as its payer sees it: pending when it leaves, then settled, failed or unknown, as is claimed."""

    def __init__(self, attempt: Attempt, paying: Paying, offer: Offer) -> None:
        self.id = attempt.call.sink.new_id()
        self.attempt = attempt
        self.offer = offer
        self.status: PaymentStatus = "pending"
        self.error_type: ErrorType | None = None
        self.reason: str | None = None
        self.times_sent = 0
        self._ident = offer.memo or paying.ident

    @property
    def telling(self) -> bool:
        """Whether Tollwatch keeps payments of this network."""
        return self.offer.on_solana

    def leaves(self) -> None:
        """The signed payment is sent, or sent again."""
        self.times_sent += 1
        self._tell("pending" if self.times_sent == 1 else "retrying")

    def claimed(self, settlement: Settlement) -> None:
        """The seller says what became of it."""
        reason = settlement.reason
        more: dict[str, Any] = {"signature": settlement.signature, "facilitator_response": settlement.told}
        if settlement.success:
            self.end("settled", amount=settlement.amount or self.offer.amount, **more)
        elif reason == "settlement_pending":
            self.end("unknown", error_of(reason), reason, **more)
        else:
            self.end("failed", error_of(reason), reason, **more)

    def end(
        self, status: PaymentStatus, error_type: ErrorType | None = None, reason: str | None = None, **more: Any
    ) -> None:
        """Its end, as far as the payer can know it; what is not settled is also told as a `payment_failure`."""
        self.status, self.error_type, self.reason = status, error_type, reason
        self._tell(status, error_type=error_type, failure_reason=reason, **more)
        if status != "settled":
            self._lament()

    def _tell(self, status: PaymentStatus, **more: Any) -> None:
        attempt, offer = self.attempt, self.offer
        call = attempt.call
        if not self.telling:
            call.sink.skip("payment_on_another_network")
            return
        members = {"amount": offer.amount} | more
        call.sink.record(
            Payment(
                payment_id=self.id,
                request_id=call.request_id,
                x402_payment_id=self._ident,
                wallet=call.about.wallet or attempt.payer,
                session=call.about.session,
                status=status,
                asset=offer.asset,
                network=offer.network,
                pay_to=offer.pay_to,
                service=attempt.service,
                resource=attempt.resource,
                facilitator=call.about.facilitator or offer.fee_payer,
                retry_count=attempt.number - 1,
                metadata={"scheme": offer.scheme, "attempt": attempt.number},
                **members,
            )
        )

    def _lament(self) -> None:
        call = self.attempt.call
        call.sink.record(
            Audit(
                event_type="payment_failure",
                severity="error" if self.status == "unknown" else "warning",
                component=call.about.component,
                request_id=call.request_id,
                entity_type="payment",
                entity_id=self.id,
                details={
                    "status": self.status,
                    "error_type": self.error_type,
                    "amount": self.offer.amount,
                    "asset": self.offer.asset,
                },
            )
        )


class Attempt:
    """One try. The transport fills it in; the agent may add `data_as_of`, or an error that only it can know."""

    def __init__(self, call: Call, number: int) -> None:
        self.call = call
        self.number = number
        self.used = False
        self.exchange: object = None
        self.told = False
        self.terms: Terms | None = None
        self.payment: PaymentMade | None = None
        self.payer: str | None = None
        self.status: int | None = None
        self.version: int | None = None
        self.elapsed_s: float | None = None
        self.ended_at: float | None = None
        self.error_type: ErrorType | None = None
        self.reason: str | None = None
        self.request_digest: str | None = None
        self.response_digest: str | None = None
        self.response_bytes: int | None = None
        self.data_as_of: Any = None
        self.url_resource: str | None = None
        self.url_service: str | None = None
        self.method: str | None = None

    @property
    def service(self) -> str:
        """The paid origin."""
        return self.call.about.service or self.url_service or "unknown"

    @property
    def resource(self) -> str | None:
        """The URL that was asked for."""
        return self.call.about.resource or self.url_resource

    @property
    def unpaid(self) -> bool:
        """Whether the seller has asked for payment and none was sent."""
        return self.status == 402 and self.terms is not None and self.payment is None

    @property
    def outcome(self) -> Outcome:
        """What came of it, as far as it is known."""
        if self.error_type is not None:
            return "failed"
        return "payment_required" if self.unpaid else "ok"

    def fail(self, error_type: ErrorType, reason: str) -> None:
        """It failed, of this."""
        self.error_type, self.reason = error_type, without_secrets(reason)[:300]

    def took(self, seconds: float) -> None:
        """An exchange took so long, to the headers of its answer; challenge and payment add up."""
        self.elapsed_s = (self.elapsed_s or 0.0) + seconds
        self.ended_at = time.monotonic()

    def answered(self, status: int) -> None:
        """The answer's headers are there."""
        self.status = status
        payment = self.payment
        if payment is not None and payment.error_type is not None and status >= 400:
            self.fail(payment.error_type, payment.reason or f"HTTP {status}")
        elif status == 402 and (payment is not None or self.terms is None):
            self.fail("rejected" if payment is not None else "invalid_402", "HTTP 402")
        elif status >= 400 and status != 402:
            self.fail("upstream_error" if status >= 500 else "other", f"HTTP {status}")

    def tell(self, outcome: Outcome | None = None, backoff_s: float | None = None) -> None:
        """Report it, once."""
        if self.told:
            return
        self.told = True
        call, about = self.call, self.call.about
        call.sink.record(
            ApiRequest(
                request_id=call.request_id,
                service=self.service,
                outcome=outcome or self.outcome,
                attempt=self.number,
                max_retries=about.max_retries,
                wallet=about.wallet or self.payer,
                session=about.session,
                endpoint_type=about.endpoint_type,
                resource=self.resource,
                method=about.method or self.method,
                response_status=self.status,
                x402_version=self.version,
                payment_required=self.terms.told if self.terms else None,
                payment_id=self.payment.id if self.payment and self.payment.telling else None,
                paid=self.payment is not None and self.payment.status == "settled",
                latency_ms=_ms(self.elapsed_s),
                backoff_ms=_ms(backoff_s),
                component=about.component,
                breaker_state=about.breaker_state,
                error_type=self.error_type,
                failure_reason=self.reason,
                request_digest=self.request_digest,
                response_digest=self.response_digest,
                response_bytes=self.response_bytes,
                data_as_of=self.data_as_of,
            )
        )


class Call:
    """One logical request, made of attempts, one at a time.

    As a `with` statement: every request inside is an attempt of it, one that follows a failure a retry. With a
    `breaker` that is open it raises BreakerOpen, and tells that the request was not made. A call that is `loose` was
    made by the transport, for a request that no agent declared.
    """

    def __init__(
        self,
        sink: Sink,
        about: About | None = None,
        *,
        request_id: str | None = None,
        breaker: CircuitBreaker | None = None,
        loose: bool = False,
    ) -> None:
        self.sink = sink
        self.about = about or About()
        self.request_id = request_id or sink.new_id()
        self.attempt: Attempt | None = None
        self.payments = 0
        self.loose = loose
        self._breaker = breaker
        self._token: Token[Call | None] | None = None

    def begin(self) -> Attempt:
        """The next attempt; the one before it is told as what it was: a failed one as retried."""
        before = self.attempt
        if before is not None and not before.told:
            waited = None if before.ended_at is None else time.monotonic() - before.ended_at
            failed = before.outcome == "failed"
            before.tell("retrying" if failed else None, waited if failed else None)
        self.attempt = Attempt(self, before.number + 1 if before is not None else 1)
        return self.attempt

    def for_exchange(self) -> Attempt:
        """The attempt that a request which pays nothing is: the present one if it is still to be made."""
        if self.attempt is None or self.attempt.used or self.attempt.told:
            self.begin()
        assert self.attempt is not None
        self.attempt.used = True
        return self.attempt

    def skip(self) -> None:
        """Tell that the request was not even made, because the breaker is open."""
        self.begin().tell("skipped_open")

    def end(self, error: BaseException | None = None) -> None:
        """It is over; `error` is what it ended with."""
        attempt = self.attempt
        if attempt is None or attempt.told:
            return
        if error is not None and attempt.error_type is None and (attempt.status is None or attempt.unpaid):
            attempt.fail(kind_of(error), f"{type(error).__name__}: {error}")
        attempt.tell()

    def __enter__(self) -> Call:
        if self._breaker is not None:
            admitted = self._breaker.admits()
            component = self.about.component or self._breaker.component
            self.about = replace(self.about, breaker_state=self._breaker.state, component=component)
            if not admitted:
                self.skip()
                raise BreakerOpen(f"the circuit breaker of {self._breaker.component} is open")
        self._token = current_call.set(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._token is not None:
            current_call.reset(self._token)
        try:
            self.end(error)
            if self._breaker is not None:
                failed = error is not None or (self.attempt is not None and self.attempt.outcome == "failed")
                self._breaker.record(success=not failed)
        except Exception as exc:  # noqa: BLE001 - the agent's own work is done
            self.sink.fault(exc)


def kind_of(error: BaseException | None) -> ErrorType:
    """error_type of what a request ended with."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "timeout"
    return "network_failure" if isinstance(error, OSError | httpx.TransportError) else "other"


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1000))
