"""A circuit breaker: after enough failures in a row it refuses for a while, then lets one request find out.

closed ──failures──► open ──time──► half_open ──► closed, or open again
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tollwatch.calls import Sink
from tollwatch.events import Audit, BreakerState, Severity

_TOLD: dict[BreakerState, tuple[str, Severity]] = {
    "open": ("breaker_opened", "error"),
    "half_open": ("breaker_half_opened", "info"),
    "closed": ("breaker_closed", "info"),
}


class CircuitBreaker:
    """Guards `component`, for any number of threads, and tells `sink` each new state when it begins.

    `clock` answers the time in seconds. A probe of which nothing is heard for `timeout_s` makes room for another.
    """

    def __init__(
        self,
        sink: Sink,
        component: str,
        *,
        failures_to_open: int = 3,
        timeout_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state: BreakerState = "closed"
        self.component = component
        self.failures_to_open = failures_to_open
        self.timeout_s = timeout_s
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._since = 0.0

    @property
    def state(self) -> BreakerState:
        """closed, open or half_open."""
        return self._state

    def admits(self) -> bool:
        """Whether a request may be made; whoever is admitted says with `record` how it ended."""
        with self._lock:
            if self._state == "closed":
                return True
            if self._clock() - self._since < self.timeout_s:
                return False
            self._since = self._clock()
            if self._state == "open":
                self._enter("half_open")
            return True

    def record(self, *, success: bool) -> None:
        """The end of a request that was admitted."""
        with self._lock:
            self._failures = 0 if success else self._failures + 1
            if success and self._state == "half_open":
                self._enter("closed")
            elif not success and (self._state == "half_open" or self._opens):
                self._since = self._clock()
                self._enter("open")

    @property
    def _opens(self) -> bool:
        return self._state == "closed" and self._failures >= self.failures_to_open

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        event_type, severity = _TOLD[state]
        details: dict[str, Any] = {"failures_to_open": self.failures_to_open, "breaker_timeout_s": self.timeout_s}
        self._sink.record(Audit(event_type=event_type, severity=severity, component=self.component, details=details))
