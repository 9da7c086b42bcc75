"""One purchase: its attempts, with retries where they help and cannot pay twice; every attempt is told."""

from sandbox.attempt import Attempt
from sandbox.desk import Desk, Order


async def buy(desk: Desk, order: Order) -> str | None:
    """Buy; None when the goods came, else the error_type of the last attempt. Raises Stopping from a backoff."""
    desk.tally.started += 1
    attempt, payments = Attempt(desk, order, 1), 0
    while True:
        await attempt.run()
        payments += attempt.claim is not None
        if not _to_be_repeated(attempt):
            break
        backoff_s = desk.backoff.after(attempt.number)
        attempt.tell("retrying", desk.time.real_s(backoff_s))
        await desk.time.pause(backoff_s)
        attempt = Attempt(desk, order, attempt.number + 1)
    _conclude(attempt, payments)
    return attempt.error_type


def skip(desk: Desk, order: Order) -> None:
    """Tell of a request that is not even made, because the breaker is open."""
    desk.tally.skipped += 1
    Attempt(desk, order, 1).tell("skipped_open")


def _to_be_repeated(attempt: Attempt) -> bool:
    left = attempt.order.retries and attempt.number <= attempt.desk.buyer.max_retries
    return attempt.error_type is not None and left and attempt.safe_to_repeat


def _conclude(last: Attempt, payments: int) -> None:
    outcome = "failed" if last.error_type else "ok"
    last.tell(outcome)
    tally = last.desk.tally
    tally.done += outcome == "ok"
    tally.failed += outcome == "failed"
    if last.number > 1:
        _account_for_retries(last, payments, outcome)


def _account_for_retries(last: Attempt, payments: int, outcome: str) -> None:
    desk, order = last.desk, last.order
    desk.voice.diary.retries.add(request_id=order.request_id, attempts=last.number, payments=payments, outcome=outcome)
    about = {"component": order.service.name, "request_id": order.request_id}
    details = {"attempts": last.number, "payments": payments}
    if outcome == "ok":
        desk.voice.audit("retry_success", **about, details=details)
    elif last.number > desk.buyer.max_retries:
        desk.voice.audit("retry_exhausted", "error", **about, details={**details, "error_type": last.error_type})
