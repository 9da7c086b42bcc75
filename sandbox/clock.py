"""Time, as an argument: a wall clock that never goes back, a clock that tests move, and slots counted by either."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

UnixMs = Callable[[], int]
"""Answers the time in milliseconds since 1970; never less than it answered before."""

MAINNET_SLOT_MS = 400


def rfc3339(unix_ms: int) -> str:
    """A time in UTC to the millisecond, such as 2026-11-30T12:00:00.000Z."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC).replace(microsecond=unix_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WallClock:
    """The system's time, held still while the system's clock is set back."""

    def __init__(self) -> None:
        self._latest = 0

    def __call__(self) -> int:
        self._latest = max(self._latest, time.time_ns() // 1_000_000)
        return self._latest


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, unix_ms: int = 1_800_000_000_000) -> None:
        self._now = unix_ms

    def __call__(self) -> int:
        return self._now

    def advance(self, ms: int) -> None:
        """Move forward by `ms` milliseconds; backwards is refused with ValueError."""
        if ms < 0:
            raise ValueError("a clock does not go back")
        self._now += ms


class SlotClock:
    """Counts slots of `slot_ms` milliseconds from the slot unix_ms / 400.

    Every run starts at the slot that mainnet's nominal pace gives the present moment, whatever its own pace is. So with
    slots of 400 ms or longer a run can never have got past the first slot of the next one. With shorter slots (tests)
    it gets ahead: start such a run on a fresh Tollwatch database.
    """

    def __init__(self, unix_ms: UnixMs, slot_ms: int = MAINNET_SLOT_MS) -> None:
        if slot_ms < 1:
            raise ValueError("a slot lasts at least 1 ms")
        self._unix_ms = unix_ms
        self.slot_ms = slot_ms
        self.start_ms = unix_ms()
        self.start_slot = self.start_ms // MAINNET_SLOT_MS

    def slot(self) -> int:
        """The slot of this moment."""
        return self.start_slot + (self._unix_ms() - self.start_ms) // self.slot_ms

    def block_time(self, slot: int) -> int:
        """The second since 1970 in which `slot` began."""
        return (self.start_ms + (slot - self.start_slot) * self.slot_ms) // 1000
