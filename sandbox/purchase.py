"""One purchase: the attempts an agent makes, what it sees of each, and what it tells Tollwatch."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from x402.http.clients.httpx import PaymentError
from x402.schemas import NoMatchingRequirementsError, PaymentPayload, PaymentRequired, SettleResponse

from sandbox import tokens
from sandbox.errors import RpcFault
from sandbox.events import Event, EventIds, event
from sandbox.observe import WATCHER

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 5.0

_SETTLE_ERRORS: Mapping[str, str] = {
    "insufficient_funds": "insufficient_funds",
    "duplicate_settlement": "duplicate",
    "settlement_pending": "timeout",
    "transaction_simulation_failed": "rpc_error",
}
"""error_type by the reason of a refused or failed settlement; any other is `rejected`."""

_HOPELESS = frozenset({"insufficient_funds", "invalid_402", "other"})
"""Errors that another attempt would meet again."""


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """Who buys, as events name it, and from whom. `service` and `facilitator` are URLs."""

    agent: str
    wallet: str
    service: str
    facilitator: str
    max_retries: int


@dataclass
class Tally:
    """What an agent did this run. `spent` is in atomic units, of settlements that sellers claimed."""

    started: int = 0
    done: int = 0
    failed: int = 0
    payments: dict[str, int] = field(default_factory=lambda: {"settled": 0, "failed": 0, "unknown": 0})
    spent: int = 0


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What every purchase of an agent uses: its identity, its paying HTTP client, its ids, its report, its tally."""

    buyer: Buyer
    http: httpx.AsyncClient
    ids: EventIds
    report: Callable[[Event], None]
    tally: Tally
    jitter: Callable[[], float]


class Claim:
    """One payment as its payer sees it: pending when signed, then settled, failed, or unknown for good."""

    def __init__(self, desk: Desk, attempt: "Attempt", payload: PaymentPayload) -> None:
        self.payment_id = desk.ids.new()
        self.status = "pending"
        self.error_type: str | None = None
        self.reason: str | None = None
        self._desk = desk
        self._attempt = attempt
        self._terms = payload.accepted
        self._tell("pending")

    def conclude(self, status: str, error_type: str | None = None, reason: str | None = None, **more: object) -> None:
        """The payment's end, as far as the payer can know it."""
        self.status, self.error_type, self.reason = status, error_type, reason
        self._desk.tally.payments[status] += 1
        if status == "settled":
            self._desk.tally.spent += int(self._terms.amount)
        self._tell(status, error_type=error_type, failure_reason=reason, **more)

    def _tell(self, status: str, **more: object) -> None:
        buyer, asset = self._desk.buyer, tokens.ASSETS[self._terms.asset]
        self._desk.report(
            event(
                "payment",
                self._desk.ids.new(),
                agent=buyer.agent,
                payment_id=self.payment_id,
                request_id=self._attempt.request_id,
                x402_payment_id=self._terms.extra.get("memo"),
                wallet=buyer.wallet,
                status=status,
                amount=self._terms.amount,
                asset=asset.symbol,
                network=self._terms.network,
                pay_to=self._terms.pay_to,
                service=buyer.service,
                resource=self._attempt.resource,
                facilitator=buyer.facilitator,
                retry_count=self._attempt.number - 1,
                metadata={"scheme": self._terms.scheme, "attempt": self._attempt.number},
                **more,
            )
        )


class Attempt:
    """One HTTP attempt, challenge and payment included; the transport's watcher of it."""

    def __init__(self, desk: Desk, request_id: str, number: int, resource: str) -> None:
        self.request_id = request_id
        self.number = number
        self.resource = resource
        self.required: PaymentRequired | None = None
        self.claim: Claim | None = None
        self.status: int | None = None
        self.body = b""
        self.error_type: str | None = None
        self.reason: str | None = None
        self._desk = desk
        self._began = time.monotonic()

    async def run(self) -> None:
        """Make the attempt. Whatever goes wrong ends in `error_type` and `reason`; only a cancellation is raised."""
        try:
            response = await self._desk.http.get(self.resource, extensions={WATCHER: self})
            self.status, self.body = response.status_code, response.content
            if not response.is_success:
                self._fail(*self._judge(response.status_code))
        except (PaymentError, httpx.HTTPError) as exc:
            self._fail(self._classify(exc), str(exc))
        except asyncio.CancelledError:
            self._fail("other", "abandoned: the agent stops")
            self.tell("failed")
            raise

    @property
    def safe_to_repeat(self) -> bool:
        """Whether another attempt could help and cannot pay twice: an unknown payment may yet settle."""
        spent = self.claim is not None and self.claim.status != "failed"
        return self.error_type not in _HOPELESS and not spent

    def tell(self, outcome: str, backoff_s: float | None = None) -> None:
        """Report the attempt."""
        buyer, claim = self._desk.buyer, self.claim
        self._desk.report(
            event(
                "api_request",
                self._desk.ids.new(),
                agent=buyer.agent,
                request_id=self.request_id,
                attempt=self.number,
                max_retries=buyer.max_retries,
                wallet=buyer.wallet,
                service=buyer.service,
                endpoint_type="market_data",
                resource=self.resource,
                method="GET",
                response_status=self.status,
                x402_version=self.required.x402_version if self.required else None,
                payment_required=self.required.model_dump(by_alias=True, exclude_none=True) if self.required else None,
                payment_id=claim.payment_id if claim else None,
                paid=claim is not None and claim.status == "settled",
                latency_ms=round((time.monotonic() - self._began) * 1000),
                backoff_ms=round(backoff_s * 1000) if backoff_s is not None else None,
                component="market_data",
                breaker_state="closed",
                outcome=outcome,
                error_type=self.error_type,
                failure_reason=self.reason,
                **self._digest(),
            )
        )

    # What the transport sees

    def challenged(self, required: PaymentRequired) -> None:
        """The seller asks for payment."""
        self.required = required

    def paying(self, payload: PaymentPayload) -> None:
        """The signed payment is about to leave."""
        self.claim = Claim(self._desk, self, payload)

    def answered(self, status: int, settled: SettleResponse | None, refusal: str | None) -> None:
        """The paid request has an answer."""
        if self.claim is None:
            return
        if settled is not None:
            self._settled(self.claim, settled)
        elif refusal is not None:
            self.claim.conclude("failed", _SETTLE_ERRORS.get(refusal, "rejected"), refusal)
        else:
            kind = "upstream_error" if status >= 500 else "other"
            self.claim.conclude("unknown", kind, f"the paid request got {status} without a settlement")

    def lost(self, error: BaseException) -> None:
        """The paid request has no answer."""
        if self.claim is not None:
            self.claim.conclude("unknown", _transport_error(error), f"no answer to the paid request: {error!r}"[:300])

    def _settled(self, claim: Claim, settled: SettleResponse) -> None:
        response = settled.model_dump(by_alias=True, exclude_none=True)
        reason = settled.error_reason
        status = "settled" if settled.success else "unknown" if reason == "settlement_pending" else "failed"
        claim.conclude(
            status,
            None if settled.success else _SETTLE_ERRORS.get(reason or "", "rejected"),
            reason,
            signature=settled.transaction or None,
            facilitator_response=response,
        )

    # What it makes of the end

    def _fail(self, error_type: str, reason: str) -> None:
        self.error_type, self.reason = error_type, reason[:300]

    def _judge(self, status: int) -> tuple[str, str]:
        if self.claim is not None and self.claim.error_type is not None:
            return self.claim.error_type, self.claim.reason or f"HTTP {status}"
        return ("upstream_error" if status >= 500 else "other"), f"HTTP {status}"

    def _classify(self, exc: Exception) -> str:
        """The SDK wraps what goes wrong between challenge and answer in PaymentError; its cause tells what it was."""
        cause = exc.__cause__ if isinstance(exc, PaymentError) else exc
        if self.claim is None and isinstance(exc, PaymentError):
            if isinstance(cause, RpcFault | httpx.HTTPError):
                return "rpc_error"
            return "invalid_402" if isinstance(cause, NoMatchingRequirementsError | ValueError) else "other"
        return _transport_error(cause)

    def _digest(self) -> dict[str, Any]:
        if self.status is None:
            return {}
        return {
            "response_digest": hashlib.sha256(self.body).hexdigest(),
            "response_bytes": len(self.body),
            "data_as_of": _as_of(self.body) if self.error_type is None else None,
        }


async def buy(desk: Desk, resource: str) -> None:
    """Buy `resource`, with retries where they cannot pay twice; every attempt is told."""
    request_id = desk.ids.new()
    desk.tally.started += 1
    for number in range(1, desk.buyer.max_retries + 2):
        attempt = Attempt(desk, request_id, number, resource)
        await attempt.run()
        if attempt.error_type is None:
            attempt.tell("ok")
            desk.tally.done += 1
            return
        if number > desk.buyer.max_retries or not attempt.safe_to_repeat:
            attempt.tell("failed")
            break
        backoff_s = min(FIRST_BACKOFF_S * 2 ** (number - 1), MAX_BACKOFF_S) * desk.jitter()
        attempt.tell("retrying", backoff_s)
        await asyncio.sleep(backoff_s)
    desk.tally.failed += 1


def _transport_error(error: BaseException | None) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    return "network_failure" if isinstance(error, httpx.HTTPError) else "other"


def _as_of(body: bytes) -> str | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    as_of = document.get("as_of") if isinstance(document, dict) else None
    return as_of if isinstance(as_of, str) else None
