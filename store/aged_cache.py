"""A bounded cache whose entries know when they were read: fresh while young, a stopgap while the database is away."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

Clock = Callable[[], datetime]
"""What time it is: aware, UTC. Tests bring their own."""

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_ZERO = timedelta(0)


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


class AgedCache(Generic[_K, _V]):
    """At most `size` entries; the least recently used one makes room."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[_K, tuple[_V, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def items(self) -> list[tuple[_K, _V]]:
        """All entries, however old."""
        return [(key, value) for key, (value, _) in self._entries.items()]

    def get(self, key: _K, now: datetime, max_age: timedelta) -> _V | None:
        """The value, unless it is older than `max_age` or, since a clock can be set back, from the future."""
        entry = self._entries.get(key)
        if entry is None or not _ZERO <= now - entry[1] <= max_age:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: _K, value: _V, read_at: datetime) -> None:
        """Keep a value that was read at that time."""
        self._entries[key] = (value, read_at)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: _K) -> None:
        """Forget an entry, if it is there."""
        self._entries.pop(key, None)
