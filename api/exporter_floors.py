"""A counter is told no lower than it was told a moment ago.

On community TimescaleDB a row that is more than an hour late, committed while its hour is materialised for the first
time, is seen as long as the hour is aggregated when it is read, and not once the watermark has passed it: the total
lacks it until the next refresh, `TOLLWATCH_ROLLUP_INTERVAL` later. Prometheus would take that for a reset, and count
the whole total again. What is lower for longer than HOLD_SECONDS is the truth: totals were rebuilt, a project erased.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from api.exporter_values import Histogram

HOLD_SECONDS = 120.0
"""How long a series is held at most: several refreshes, the first of which should catch up."""

Labels = tuple[str, ...]
Value = float | Histogram


class Floors:
    """What one scope (a project, or all) was told last of one family, and which series are held: those of one telling,
    TOLLWATCH_MAX_SERIES at most.
    """

    def __init__(self, *, hold: float = HOLD_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._hold = hold
        self._clock = clock
        self._told: dict[Labels, Value] = {}
        self._since: dict[Labels, float] = {}
        self.begin()

    @property
    def held(self) -> int:
        """How many series of this telling are told as they were before."""
        return len(self._new_since)

    def begin(self) -> None:
        """A new telling."""
        self._new: dict[Labels, Value] = {}
        self._new_since: dict[Labels, float] = {}
        self._now = self._clock()

    def value(self, labels: Labels, read: Value) -> Value:
        """What to tell of a series that was read so."""
        told = read
        before = self._told.get(labels)
        if before is not None and before != read and (higher := _higher(before, read)) != read:
            since = self._since.get(labels, self._now)
            if self._now - since <= self._hold:
                self._new_since[labels] = since
                told = higher
        self._new[labels] = told
        return told

    def end(self) -> None:
        """The telling is complete; series that it did not tell are forgotten."""
        self._told, self._since = self._new, self._new_since


def _higher(before: Value, read: Value) -> Value:
    """The higher of two values, bucket by bucket; buckets stay cumulative."""
    if isinstance(before, Histogram):
        assert isinstance(read, Histogram)
        buckets = [(le, max(a, b)) for (_, a), (le, b) in zip(before.buckets, read.buckets, strict=True)]
        return Histogram(buckets, max(before.total, read.total))
    assert not isinstance(read, Histogram)
    return max(before, read)
