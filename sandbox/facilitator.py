"""An x402 facilitator for `exact` on the sandbox's chain: it checks payments, pays their fees and sends them.

It knows the chain only through JSON-RPC. Wire types are the SDK's; a refusal is an answer with status 200, as the
specification has it, and only a body that is no request gets 400.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import ValidationError
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.transaction import VersionedTransaction
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from x402.schemas import (
    SettleRequest,
    SettleResponse,
    SupportedKind,
    SupportedResponse,
    VerifyRequest,
    VerifyResponse,
)

from sandbox.chain import NETWORK
from sandbox.chain_client import ChainClient
from sandbox.errors import BodyTooLarge, PaymentRefused, RpcFault
from sandbox.exact_rules import Payment, check_payment
from sandbox.serve import read_body

SETTLE_TIMEOUT_S = 20.0
"""How long /settle waits for `confirmed` before it answers settlement_pending."""

REMEMBERED_S = 120.0
"""How long a settlement is remembered: longer than a blockhash lives, after which the chain itself refuses."""

INSUFFICIENT_TOKENS = {"InstructionError": [2, {"Custom": 1}]}
"""The token program's InsufficientFunds, from the transfer, which is instruction 2."""

POLL_S = 0.1

log = logging.getLogger(__name__)


@dataclass
class _Settlement:
    """A payment that has been taken up; `pending` while nobody is waiting for its end and it is not known."""

    since: float
    payer: str
    signature: str = ""
    pending: bool = False


class Facilitator:
    """Verifies and settles. `keypair` pays the fees; its address is `extra.feePayer` of every payment."""

    def __init__(
        self,
        keypair: Keypair,
        chain: ChainClient,
        *,
        poll_s: float = POLL_S,
        settle_timeout_s: float = SETTLE_TIMEOUT_S,
    ) -> None:
        self._keypair = keypair
        self._chain = chain
        self._poll_s = poll_s
        self._settle_timeout_s = settle_timeout_s
        self._settlements: dict[bytes, _Settlement] = {}

    @property
    def address(self) -> str:
        """The fee payer."""
        return str(self._keypair.pubkey())

    def supported(self) -> SupportedResponse:
        """The one kind of payment it takes."""
        kind = SupportedKind(x402_version=2, scheme="exact", network=NETWORK, extra={"feePayer": self.address})
        return SupportedResponse(kinds=[kind], extensions=[], signers={"solana:*": [self.address]})

    async def verify(self, request: VerifyRequest) -> VerifyResponse:
        """Whether the payment would be settled now."""
        try:
            payment = self._check(request)
            self._refuse_known(payment)
            await self._sign_and_simulate(payment)
        except PaymentRefused as exc:
            message = exc.message or None
            return VerifyResponse(is_valid=False, invalid_reason=exc.reason, invalid_message=message, payer=exc.payer)
        return VerifyResponse(is_valid=True, payer=payment.payer)

    async def settle(self, request: SettleRequest) -> SettleResponse:
        """Settle once. Asked again about a settlement that was left pending, look again; never send again."""
        requirements = request.payment_requirements
        settlement = None
        try:
            payment = self._check(request)
            settlement = self._take_up(payment)
            if not settlement.signature:
                await self._send(payment, settlement)
            await self._confirm(settlement)
        except PaymentRefused as exc:
            return SettleResponse(
                success=False,
                error_reason=exc.reason,
                error_message=exc.message or None,
                payer=exc.payer,
                transaction=settlement.signature if settlement is not None else "",
                network=requirements.network,
            )
        return SettleResponse(
            success=True,
            payer=settlement.payer,
            transaction=settlement.signature,
            network=requirements.network,
            amount=requirements.amount,
        )

    def _check(self, request: VerifyRequest | SettleRequest) -> Payment:
        return check_payment(request.payment_payload, request.payment_requirements, self._keypair.pubkey())

    def _refuse_known(self, payment: Payment) -> None:
        if _key(payment) in self._settlements:
            raise PaymentRefused("duplicate_settlement", payer=payment.payer)

    def _take_up(self, payment: Payment) -> _Settlement:
        """A new settlement, or one that was left pending; any other is a duplicate."""
        now = time.monotonic()
        for old in [old for old, one in self._settlements.items() if now - one.since > REMEMBERED_S]:
            del self._settlements[old]
        known = self._settlements.get(_key(payment))
        if known is None or not known.pending:
            self._refuse_known(payment)
            known = self._settlements[_key(payment)] = _Settlement(since=now, payer=payment.payer)
        known.pending = False
        return known

    async def _sign_and_simulate(self, payment: Payment) -> VersionedTransaction:
        """The fully signed transaction, proven to succeed on the present state."""
        message = payment.transaction.message
        signature = self._keypair.sign_message(to_bytes_versioned(message))
        signed = VersionedTransaction.populate(message, [signature, *payment.transaction.signatures[1:]])
        try:
            err = await self._chain.simulate(bytes(signed))
        except (RpcFault, httpx.HTTPError) as exc:
            raise PaymentRefused("transaction_simulation_failed", str(exc), payment.payer) from exc
        if err == INSUFFICIENT_TOKENS:
            raise PaymentRefused("insufficient_funds", payer=payment.payer)
        if err is not None:
            raise PaymentRefused("transaction_simulation_failed", str(err), payment.payer)
        return signed

    async def _send(self, payment: Payment, settlement: _Settlement) -> None:
        """Put the payment on its way; forget it when it certainly is not, so that it may be tried again."""
        try:
            signed = await self._sign_and_simulate(payment)
            settlement.signature = str(signed.signatures[0])
            await self._chain.send(bytes(signed))
        except (PaymentRefused, RpcFault) as exc:
            settlement.signature = ""
            self._settlements.pop(_key(payment), None)
            if isinstance(exc, PaymentRefused):
                raise
            raise PaymentRefused("transaction_failed", str(exc), payment.payer) from exc
        except httpx.HTTPError:
            log.warning("send_unanswered", extra={"signature": settlement.signature})  # it may have arrived: go and see

    async def _confirm(self, settlement: _Settlement) -> None:
        """Wait until the transaction is confirmed, and believe its `err`, not the confirmation."""
        deadline = time.monotonic() + self._settle_timeout_s
        while time.monotonic() < deadline:
            try:
                confirmed, err = await self._chain.confirmed_error(settlement.signature)
            except (RpcFault, httpx.HTTPError):
                confirmed, err = False, None  # the next poll may get an answer
            if confirmed and err is not None:
                raise PaymentRefused("transaction_failed", str(err), settlement.payer)
            if confirmed:
                return
            await asyncio.sleep(self._poll_s)
        settlement.pending = True
        raise PaymentRefused("settlement_pending", "not confirmed in time", settlement.payer)


def _key(payment: Payment) -> bytes:
    """Names a payment by its message: the fee payer's empty signature slot may hold anything."""
    return bytes(payment.transaction.message.hash())


def facilitator_app(facilitator: Facilitator) -> Starlette:
    """POST /verify, POST /settle, GET /supported."""

    async def verify(request: Request) -> Response:
        return await _answer(request, VerifyRequest, facilitator.verify, _unreadable_verify)

    async def settle(request: Request) -> Response:
        return await _answer(request, SettleRequest, facilitator.settle, _unreadable_settle)

    async def supported(_: Request) -> Response:
        return _json(facilitator.supported())

    return Starlette(
        routes=[
            Route("/verify", verify, methods=["POST"]),
            Route("/settle", settle, methods=["POST"]),
            Route("/supported", supported, methods=["GET"]),
        ]
    )


Answer = VerifyResponse | SettleResponse | SupportedResponse
Asked = TypeVar("Asked", VerifyRequest, SettleRequest)


async def _answer(
    request: Request,
    model: type[Asked],
    handle: Callable[[Asked], Awaitable[Answer]],
    unreadable: Callable[[str], Answer],
) -> Response:
    try:
        asked = model.model_validate_json(await read_body(request))
    except BodyTooLarge as exc:
        return _json(unreadable(str(exc)), 413)
    except ValidationError as exc:
        return _json(unreadable(f"{exc.error_count()} fields are missing or wrong"), 400)
    except ClientDisconnect:
        return Response(status_code=400)
    return _json(await handle(asked))


def _unreadable_verify(message: str) -> VerifyResponse:
    return VerifyResponse(is_valid=False, invalid_reason="invalid_payload", invalid_message=message)


def _unreadable_settle(message: str) -> SettleResponse:
    return SettleResponse(
        success=False, error_reason="invalid_payload", error_message=message, transaction="", network=NETWORK
    )


def _json(answer: Answer, status: int = 200) -> Response:
    body = answer.model_dump_json(by_alias=True, exclude_none=True)
    return Response(body, status, media_type="application/json")
