"""An agent's voice: what it tells Tollwatch goes through here, and what the books keep of it into diary and tally."""

from typing import Any

from tollwatch import Audit, Event, Payment, Queue, Recorder
from tollwatch.ids import ms_of

from sandbox import tokens
from sandbox.clock import rfc3339
from sandbox.diary import Diary, Tally

_BREAKER_STATES = {"breaker_opened": "open", "breaker_half_opened": "half_open", "breaker_closed": "closed"}
_ENDS = ("settled", "failed", "unknown")


def time_of(ident: str) -> str:
    """The time in an id of version 7, as RFC 3339."""
    return rfc3339(ms_of(ident))


class Voice:
    """Stands before the agent's recorder (it is a tollwatch.Sink) and notes what is said."""

    def __init__(self, recorder: Recorder, diary: Diary, tally: Tally) -> None:
        self._recorder = recorder
        self.diary = diary
        self._tally = tally
        self.new_id = recorder.new_id
        self.fault = recorder.fault
        self.skip = recorder.skip

    def record(self, event: Event) -> str:
        """Tell, and note; the event's id."""
        ident = self._recorder.record(event)
        if isinstance(event, Payment) and event.status in _ENDS:
            self._note_payment(event)
        elif isinstance(event, Queue):
            self._note_queue(event, ident)
        elif isinstance(event, Audit):
            self._note_audit(event, ident)
        return ident

    def audit(self, event_type: str, severity: Any = "info", **members: Any) -> str:
        """Report something that an operator may have to explain; the event's id."""
        return self.record(Audit(event_type=event_type, severity=severity, **members))

    def lie(self, claim: Payment) -> None:
        """Tell of a payment that was never made; it counts in no tally."""
        self._recorder.record(claim)
        if claim.status == "settled":
            self.diary.false.add(payment_id=claim.payment_id, signature=claim.signature)

    def keep_silent(self, event_type: str) -> None:
        """Note a moment that is left to Tollwatch to find out."""
        self.diary.moments.add(event_type=event_type, ts=time_of(self.new_id()), event_id=None)

    def _note_payment(self, end: Payment) -> None:
        self._tally.payments[end.status] += 1
        if end.status == "settled":
            self._tally.spent += int(end.amount)
            self.diary.settled.add(payment_id=end.payment_id, signature=end.signature)
        elif end.status == "unknown":
            self.diary.unknown.add(
                payment_id=end.payment_id,
                request_id=end.request_id,
                x402_payment_id=end.x402_payment_id,
                error_type=end.error_type,
                asset=tokens.ASSETS[end.asset].symbol,
                amount=str(end.amount),
            )

    def _note_queue(self, event: Queue, ident: str) -> None:
        self.diary.queue.add(
            state=event.state,
            request_id=event.request_id,
            priority_score=event.priority_score,
            freshness_s=event.freshness_s,
            ts=time_of(ident),
            event_id=ident,
        )

    def _note_audit(self, event: Audit, ident: str) -> None:
        state = _BREAKER_STATES.get(event.event_type)
        if state is not None:
            self.diary.breaker.add(component=event.component, state=state, ts=time_of(ident), event_id=ident)
        else:
            self.diary.moments.add(event_type=event.event_type, ts=time_of(ident), event_id=ident)
