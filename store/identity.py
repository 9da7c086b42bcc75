"""The identity of an event: a UUIDv7 whose time is the event's time, to the millisecond (RFC 9562, section 5.7).

The same id can therefore never arrive with another time, and (project, ts, id) alone makes a resend the same row. Other
UUID versions come with an explicit `ts`, cut to milliseconds by `to_milliseconds`, which every path uses.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_milliseconds(moment: datetime) -> datetime:
    """Cut (never round) an aware time to whole milliseconds, in UTC. ValueError: no time zone."""
    if moment.tzinfo is None:
        raise ValueError("a time needs a UTC offset")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    below = moment.microsecond % 1000
    return moment.replace(microsecond=moment.microsecond - below) if below else moment


def unix_milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970, cut."""
    return (moment - EPOCH) // _MILLISECOND


def time_of(event_id: UUID) -> datetime | None:
    """The time inside a UUIDv7; None for other versions. OverflowError: a time after the year 9999."""
    value = event_id.int
    if value >> 76 & 0xF != 7 or value >> 62 & 0x3 != 2:  # what UUID.version compares, which is slow
        return None
    return EPOCH + _MILLISECOND * (value >> 80)


def uuid7(moment: datetime, random: bytes | None = None) -> UUID:
    """A UUIDv7 of that moment; `random` (10 bytes or more) makes it repeatable."""
    bits = int.from_bytes((random or os.urandom(10))[:10], "big")
    value = (unix_milliseconds(moment) & (1 << 48) - 1) << 80 | bits
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def derived_uuid7(moment: datetime, *parts: object) -> UUID:
    """The UUIDv7 that the same moment and parts always give: for events that Tollwatch itself derives."""
    return uuid7(moment, hashlib.sha256(repr(parts).encode()).digest())
