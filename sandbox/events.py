"""What agents tell Tollwatch: ids that carry their time, and events without empty members."""

import os
import uuid

from sandbox.clock import UnixMs, rfc3339

Event = dict[str, object]

_COUNTER_BITS = 12


class EventIds:
    """UUIDs of version 7 (RFC 9562). Those of one millisecond count up in the 12 bits after the version.

    Tollwatch takes an event's time from its id, so an id is made at the moment the event happens.
    """

    def __init__(self, unix_ms: UnixMs) -> None:
        self._unix_ms = unix_ms
        self._latest = 0
        self._counter = 0

    def new(self) -> str:
        """An id of this millisecond, greater than every earlier one unless 4,096 were made within it."""
        now = self._unix_ms()
        self._counter = (self._counter + 1) % (1 << _COUNTER_BITS) if now == self._latest else 0
        self._latest = now
        tail = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
        return str(uuid.UUID(int=now << 80 | 7 << 76 | self._counter << 64 | 2 << 62 | tail))


def event(kind: str, ident: str, **members: object) -> Event:
    """An event of type `kind`; members that are None are left out."""
    known = {name: value for name, value in members.items() if value is not None}
    return {"type": kind, "id": ident, **known}


def time_of(ident: str) -> str:
    """The time in an id of version 7, as RFC 3339."""
    return rfc3339(uuid.UUID(ident).int >> 80)
