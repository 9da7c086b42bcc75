"""The events in memory: bounded by number and bytes; when one more comes than fits, the oldest is dropped.

The oldest, because the newest tell the present state, and the oldest are the first that Tollwatch would refuse as
too late.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from tollwatch.events import Item


class Buffer:
    """A queue for many threads that put and one or two that take. Its lock is held for moments, never during I/O."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._in_hand = 0
        self._max_events = max_events
        self._max_bytes = max_bytes

    def put(self, item: Item) -> int:
        """Add one; how many were dropped for it."""
        with self._lock:
            self._items.append(item)
            self._bytes += len(item.body)
            dropped = 0
            while len(self._items) > self._max_events or self._bytes > self._max_bytes:
                self._bytes -= len(self._items.popleft().body)
                dropped += 1
        return dropped

    def take(self, most_events: int, most_bytes: int) -> list[Item]:
        """The oldest, in hand of the caller until they are `release`d or `give_back`."""
        taken: list[Item] = []
        with self._lock:
            while self._items and len(taken) < most_events:
                most_bytes -= len(self._items[0].body)
                if taken and most_bytes < 0:
                    break
                taken.append(self._items.popleft())
                self._bytes -= len(taken[-1].body)
            self._in_hand += len(taken)
        return taken

    def release(self, number: int) -> None:
        """So many in hand are cared for elsewhere."""
        with self._lock:
            self._in_hand -= number

    def give_back(self, items: Sequence[Item]) -> None:
        """They go back to the front."""
        with self._lock:
            self._items.extendleft(reversed(items))
            self._bytes += sum(len(item.body) for item in items)
            self._in_hand -= len(items)

    def clear(self) -> int:
        """Forget everything that is not in hand; how many."""
        with self._lock:
            number = len(self._items)
            self._items.clear()
            self._bytes = 0
        return number

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._items

    def __len__(self) -> int:
        """How many wait, those in hand included."""
        with self._lock:
            return len(self._items) + self._in_hand
