"""Ranges of time: `from` (belongs to it) and `to` (does not), RFC 3339; the last 24 hours (of days: 30) unless said
otherwise.

A range too wide for its bucket is refused before the database sees it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from api.times import parse_time
from store.errors import InvalidValue
from store.readers.positions import Window

DEFAULT_RANGE = timedelta(hours=24)
DEFAULT_DAYS = timedelta(days=30)
RAW_RANGE = timedelta(days=31)
"""Widest range of one call that lists rows as they are stored."""
HOURLY_RANGE = timedelta(days=400)
"""Widest range of one call that lists hours."""
DAILY_RANGE = timedelta(days=5 * 366)
"""Widest range of one call that lists days."""


def parse_instant(text: object) -> datetime:
    """RFC 3339 with an offset → aware UTC, cut to milliseconds as every time is. ValueError: what it must look like."""
    try:
        return parse_time(str(text))
    except InvalidValue as exc:
        raise ValueError(f"{exc} (in a URL the + of an offset is written %2B)") from exc


Moment = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-03T09:30:00Z"]}),
]


def window_of(
    from_: datetime | None, to: datetime | None, *, now: datetime, skew: timedelta, default: timedelta = DEFAULT_RANGE
) -> Window:
    """The range asked for. Without `to` it reaches as far ahead as ingest accepts events: `skew`."""
    end = now + skew if to is None else to
    if from_ is None:
        from_ = _before(now if to is None else to, default)
    if from_ >= end:
        raise InvalidValue("`from` must lie before `to`")
    return Window(from_, end)


def check_width(window: Window, widest: timedelta, skew: timedelta) -> None:
    """Refuse a range wider than `widest`; the default end's lead of `skew` is free. Raises InvalidValue."""
    if window.to_ts - window.from_ts > widest + skew:
        raise InvalidValue(
            f"from {window.from_ts.isoformat()} to {window.to_ts.isoformat()} is too wide; this list takes "
            f"{widest.days} days at most in one call"
        )


def _before(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment - span
    except OverflowError as exc:
        raise InvalidValue("`to` is too early; send `from` too") from exc
