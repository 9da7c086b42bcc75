"""One attempt of a purchase: what the agent sees of it, what it makes of it, and what it tells Tollwatch."""

import asyncio
import hashlib
import time
from typing import Any

import httpx
import msgspec
from x402.http.clients.httpx import PaymentError
from x402.schemas import NoMatchingRequirementsError, PaymentPayload, PaymentRequired, SettleResponse

from sandbox.claim import SETTLE_ERRORS, Claim
from sandbox.desk import Desk, Order
from sandbox.errors import RpcFault
from sandbox.observe import WATCHER

_HOPELESS = frozenset({"insufficient_funds", "invalid_402", "session_limit", "session_expired", "other"})
"""Errors that another attempt would meet again."""


class Attempt:
    """One HTTP attempt, challenge and payment included; the transport's watcher of it."""

    def __init__(self, desk: Desk, order: Order, number: int) -> None:
        self.desk = desk
        self.order = order
        self.number = number
        self.required: PaymentRequired | None = None
        self.claim: Claim | None = None
        self.status: int | None = None
        self.body = b""
        self.error_type: str | None = None
        self.reason: str | None = None
        self._began: float | None = None

    async def run(self) -> None:
        """Make the attempt. Whatever goes wrong ends in `error_type` and `reason`; only a cancellation is raised."""
        refusal = self.desk.sessions.refusal() if self.desk.sessions is not None else None
        if refusal is not None:
            self._fail(refusal, "the wallet session allows no more payments; refused without asking the seller")
            return
        self._began = time.monotonic()
        try:
            response = await self.desk.http.get(self.order.resource, extensions={WATCHER: self})
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
        if self.error_type in _HOPELESS:
            return False
        paid_in_vain = self.claim is not None and self.claim.status == "settled" and self.desk.buyer.pays_again
        return self.claim is None or self.claim.status == "failed" or paid_in_vain

    def tell(self, outcome: str, backoff_s: float | None = None) -> None:
        """Report the attempt."""
        buyer, order, claim, sessions = self.desk.buyer, self.order, self.claim, self.desk.sessions
        self.desk.voice.tell(
            "api_request",
            request_id=order.request_id,
            attempt=self.number,
            max_retries=buyer.max_retries,
            wallet=buyer.wallet,
            session=claim.session if claim else sessions.current.id if sessions else None,
            service=order.service.url,
            endpoint_type=order.service.name,
            resource=order.resource,
            method="GET",
            response_status=self.status,
            x402_version=self.required.x402_version if self.required else None,
            payment_required=self.required.model_dump(by_alias=True, exclude_none=True) if self.required else None,
            payment_id=claim.payment_id if claim else None,
            paid=claim is not None and claim.status == "settled",
            latency_ms=round((time.monotonic() - self._began) * 1000) if self._began is not None else None,
            backoff_ms=round(backoff_s * 1000) if backoff_s is not None else None,
            component=order.service.name,
            breaker_state=order.breaker_state,
            outcome=outcome,
            error_type=self.error_type,
            failure_reason=self.reason,
            **self._digest(),
        )

    # What the transport sees

    def challenged(self, required: PaymentRequired) -> None:
        """The seller asks for payment."""
        self.required = required

    def paying(self, payload: PaymentPayload) -> None:
        """The signed payment is about to leave."""
        self.claim = Claim(self.desk, self.order, self.number, payload.accepted)

    def answered(self, status: int, settled: SettleResponse | None, refusal: str | None) -> None:
        """The paid request has an answer."""
        if self.claim is None:
            return
        if settled is not None:
            self._settled(self.claim, settled)
        elif refusal is not None:
            self.claim.conclude("failed", SETTLE_ERRORS.get(refusal, "rejected"), refusal)
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
            None if settled.success else SETTLE_ERRORS.get(reason or "", "rejected"),
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
