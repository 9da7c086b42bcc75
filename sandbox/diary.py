"""What really happened to one agent, for the books: lists that forget old entries, but not how many there were."""

from collections import deque
from dataclasses import dataclass, field

KEPT = 1000


class Roll:
    """The newest entries, and the count of all."""

    def __init__(self) -> None:
        self.count = 0
        self._newest: deque[dict[str, object]] = deque(maxlen=KEPT)

    def add(self, **entry: object) -> dict[str, object]:
        """Write an entry down; what it answers may be completed later."""
        self.count += 1
        self._newest.append(entry)
        return entry

    @property
    def items(self) -> list[dict[str, object]]:
        """The newest entries, oldest first."""
        return list(self._newest)

    def shown(self) -> dict[str, object]:
        """{count, items}, as in the books."""
        return {"count": self.count, "items": self.items}


@dataclass(frozen=True, kw_only=True)
class Diary:
    """The lists of one agent.

    `breaker` {component, state, ts, event_id}; `moments` {event_type, ts, event_id} of every other audit event, and
    `low`, which an agent knows but does not tell; `queue` {request_id, state, priority_score, freshness_s, ts,
    event_id}; `retries` {request_id, attempts, payments, outcome} of requests with more than one attempt; `settled`,
    `unknown` and `false` {payment_id, signature, …}; `top_ups` {asset, amount, signature, ts}; `sessions` {id, …}.
    """

    breaker: Roll = field(default_factory=Roll)
    moments: Roll = field(default_factory=Roll)
    queue: Roll = field(default_factory=Roll)
    retries: Roll = field(default_factory=Roll)
    settled: Roll = field(default_factory=Roll)
    unknown: Roll = field(default_factory=Roll)
    false: Roll = field(default_factory=Roll)
    top_ups: Roll = field(default_factory=Roll)
    sessions: Roll = field(default_factory=Roll)


@dataclass
class Tally:
    """What an agent did this run. `spent` is in atomic units, of settlements that sellers claimed."""

    started: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    payments: dict[str, int] = field(default_factory=lambda: {"settled": 0, "failed": 0, "unknown": 0})
    spent: int = 0
