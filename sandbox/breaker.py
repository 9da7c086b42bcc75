"""A circuit breaker: after enough failures in a row it refuses for a while, then lets one request find out.

closed ──failures──► open ──time──► half_open ──► closed, or open again
"""

from collections.abc import Callable

FAILURES_TO_OPEN = 3

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


class Breaker:
    """For one request at a time. `now_s` answers the time in seconds; `tell` hears each new state when it begins."""

    def __init__(self, timeout_s: float, now_s: Callable[[], float], tell: Callable[[str], None]) -> None:
        self.state = CLOSED
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._tell = tell
        self._failures = 0
        self._opened_s = 0.0

    def admits(self) -> bool:
        """Whether a request may be made. Once the time is over the breaker half-opens for one probe."""
        if self.state == OPEN and self._now_s() - self._opened_s >= self._timeout_s:
            self._enter(HALF_OPEN)
        return self.state != OPEN

    def record(self, *, success: bool) -> None:
        """The end of a request that was admitted."""
        self._failures = 0 if success else self._failures + 1
        if success and self.state == HALF_OPEN:
            self._enter(CLOSED)
        elif not success and (self.state == HALF_OPEN or self._failures >= FAILURES_TO_OPEN):
            self._opened_s = self._now_s()
            self._enter(OPEN)

    def _enter(self, state: str) -> None:
        self.state = state
        self._tell(state)
