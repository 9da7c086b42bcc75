"""What can go wrong, as far as an agent can hear of it. Nothing of this is raised while the agent works.

TollwatchError
├── ConfigError    raised by `Recorder(…)` alone, at its start
├── InvalidEvent   raised by `Event.encode`; `Recorder.record` counts it
├── BreakerOpen    raised by a `Call` with a breaker that is open, instead of making the request
└── TryLater       between sender and delivery
"""

from __future__ import annotations


class TollwatchError(Exception):
    """Something of Tollwatch's client went wrong."""


class ConfigError(TollwatchError, ValueError):
    """The recorder cannot be made as asked."""


class InvalidEvent(TollwatchError, ValueError):
    """Tollwatch would reject the event."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field} {what}")
        self.field = field


class BreakerOpen(TollwatchError):
    """The circuit breaker is open; the request was not made."""


class TryLater(TollwatchError):
    """Tollwatch did not take it now.

    `after_s` is what it asked to wait; `slow` says that somebody has to look first (a wrong key, a wrong URL).
    """

    def __init__(self, why: str, after_s: float | None = None, *, slow: bool = False) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.slow = slow
