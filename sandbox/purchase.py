"""One purchase: its attempts, with retries where they help and cannot pay twice. The client tells of them."""

import contextlib

import httpx
import msgspec
from tollwatch import EXTENSION, Attempt, Call, Failure, RetryPolicy, retry_async
from tollwatch.events import ErrorType
from tollwatch.retry import judge
from x402.http.clients.httpx import PaymentError
from x402.schemas import NoMatchingRequirementsError

from sandbox.desk import Desk, Order
from sandbox.errors import RpcFault, SessionRefused


async def buy(desk: Desk, order: Order) -> str | None:
    """Buy; None when the goods came, else the error_type of the last attempt. Raises Stopping from a backoff."""
    desk.tally.started += 1
    call = Call(desk.voice, desk.about(order), request_id=order.request_id)
    policy = RetryPolicy(
        max_retries=desk.buyer.max_retries if order.retries else 0,
        backoff=desk.backoff,
        pays_again=desk.buyer.pays_again,
        judge=_judge,
    )

    async def ask(attempt: Attempt) -> httpx.Response:
        return await _ask(desk, call, attempt)

    with contextlib.suppress(PaymentError, httpx.HTTPError, SessionRefused):  # told already
        await retry_async(call, ask, policy, desk.time.wait)
    return _conclude(desk, call)


def skip(desk: Desk, order: Order) -> None:
    """Tell of a request that is not even made, because the breaker is open."""
    desk.tally.skipped += 1
    Call(desk.voice, desk.about(order), request_id=order.request_id).skip()


async def _ask(desk: Desk, call: Call, attempt: Attempt) -> httpx.Response:
    refusal = desk.sessions.refusal() if desk.sessions is not None else None
    if refusal is not None:
        attempt.fail(refusal, "the wallet session allows no more payments; refused without asking the seller")
        raise SessionRefused(refusal)
    response = await desk.http.get(str(call.about.resource), extensions={EXTENSION: call})
    attempt.data_as_of = _as_of(response.content) if response.is_success else None
    return response


def _judge(result: object, error: BaseException | None, attempt: Attempt) -> Failure | None:
    """The SDK wraps what goes wrong between challenge and payment in PaymentError; its cause tells what it was."""
    if isinstance(error, PaymentError) and attempt.payment is None:
        return Failure(error_type=_of_the_payment(error.__cause__), reason=str(error))
    return judge(result, error, attempt)


def _of_the_payment(cause: BaseException | None) -> ErrorType:
    if isinstance(cause, RpcFault | httpx.HTTPError):
        return "rpc_error"
    return "invalid_402" if isinstance(cause, NoMatchingRequirementsError | ValueError) else "other"


def _conclude(desk: Desk, call: Call) -> str | None:
    last = call.attempt
    assert last is not None
    outcome = "failed" if last.error_type else "ok"
    desk.tally.done += outcome == "ok"
    desk.tally.failed += outcome == "failed"
    if last.number > 1:
        desk.voice.diary.retries.add(
            request_id=call.request_id, attempts=last.number, payments=call.payments, outcome=outcome
        )
    return last.error_type


def _as_of(body: bytes) -> str | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    as_of = document.get("as_of") if isinstance(document, dict) else None
    return as_of if isinstance(as_of, str) else None
