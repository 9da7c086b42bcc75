"""An agent's voice: what it tells Tollwatch goes through here, and what the books keep of it into its diary."""

from collections.abc import Callable

from sandbox.diary import Diary
from sandbox.events import Event, EventIds, event, time_of

_BREAKER_EVENTS = {"open": "breaker_opened", "half_open": "breaker_half_opened", "closed": "breaker_closed"}


class Voice:
    """Makes events in the name of `agent` at the moment they happen, and hands them to `report`."""

    def __init__(self, agent: str, ids: EventIds, report: Callable[[Event], None], diary: Diary) -> None:
        self.ids = ids
        self._agent = agent
        self._report = report
        self.diary = diary

    def tell(self, kind: str, **members: object) -> str:
        """Report an event of this type; its id."""
        ident = self.ids.new()
        self._report(event(kind, ident, agent=self._agent, **members))
        return ident

    def audit(self, event_type: str, severity: str = "info", **members: object) -> str:
        """Report something that an operator may have to explain; the event's id."""
        ident = self.tell("audit", event_type=event_type, severity=severity, **members)
        self.diary.moments.add(event_type=event_type, ts=time_of(ident), event_id=ident)
        return ident

    def breaker(self, component: str, state: str, severity: str, **details: object) -> None:
        """Report that the breaker of a component has entered a state."""
        ident = self.tell(
            "audit", event_type=_BREAKER_EVENTS[state], severity=severity, component=component, details=details
        )
        self.diary.breaker.add(component=component, state=state, ts=time_of(ident), event_id=ident)

    def queue(self, state: str, **members: object) -> None:
        """Report that a request was queued, processed or dropped."""
        ident = self.tell("queue", state=state, **members)
        noted = {name: members[name] for name in ("request_id", "priority_score", "freshness_s")}
        self.diary.queue.add(state=state, **noted, ts=time_of(ident), event_id=ident)

    def keep_silent(self, event_type: str) -> None:
        """Note a moment that is left to Tollwatch to find out."""
        self.diary.moments.add(event_type=event_type, ts=time_of(self.ids.new()), event_id=None)
