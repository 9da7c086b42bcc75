"""Ids of events: UUIDs of version 7, made once, when the event happens. Tollwatch takes the event's time from them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

UnixMs = Callable[[], int]
"""Answers the time in milliseconds since 1970."""

_COUNTERS = 1 << 12
STEP_BACK_MS = 10_000
"""A clock that was set back by less is waited for, so that ids ascend; one set back by more is followed."""


def system_ms() -> int:
    """The system's time."""
    return time.time_ns() // 1_000_000


class EventIds:
    """Ascending ids, for any number of threads. Those of one millisecond count in the 12 bits after the version;
    when these run out the next millisecond is borrowed (RFC 9562, section 6.2)."""

    def __init__(self, unix_ms: UnixMs = system_ms) -> None:
        self._unix_ms = unix_ms
        self._lock = threading.Lock()
        self._latest = 0
        self._counter = 0

    def new(self) -> str:
        """An id of this millisecond."""
        tail = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
        with self._lock:
            ms, counter = self._next(self._unix_ms())
        digits = f"{ms << 80 | 7 << 76 | counter << 64 | 2 << 62 | tail:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _next(self, now: int) -> tuple[int, int]:
        if now > self._latest or self._latest - now > STEP_BACK_MS:
            self._latest, self._counter = now, 0
        else:
            self._counter += 1
            if self._counter == _COUNTERS:
                self._latest, self._counter = self._latest + 1, 0
        return self._latest, self._counter

    def reset_lock(self) -> None:
        """After a fork: another thread of the parent may have held it."""
        self._lock = threading.Lock()


def ms_of(event_id: str) -> int:
    """The milliseconds since 1970 in an id."""
    return int(event_id[:8] + event_id[9:13], 16)
