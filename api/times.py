"""Times on the wire: RFC 3339 with an offset, in and out."""

from __future__ import annotations

import re
from datetime import datetime

from store.errors import InvalidValue
from store.identity import to_milliseconds

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,6})\d*)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
FORM = "RFC 3339 with an offset, such as 2026-11-20T12:00:00.000Z"


def parse_time(text: str) -> datetime:
    """An aware UTC time, cut (not rounded) to milliseconds. Raises InvalidValue: no time of years 1 to 9999."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidValue(f"{text[:40]!r} is not a time; send {FORM}")
    day, clock, fraction, offset = match.groups()
    try:
        return to_milliseconds(datetime.fromisoformat(f"{day}T{clock}.{fraction or '0':0<6}{offset.upper()}"))
    except (ValueError, OverflowError) as exc:
        raise InvalidValue(f"{text[:40]!r} does not exist on the calendar; send {FORM}") from exc
