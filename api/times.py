"""Times on the wire: RFC 3339 with an offset, in and out."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, overload

import msgspec
from pydantic import BeforeValidator, WithJsonSchema

from store.errors import InvalidValue
from store.identity import to_milliseconds

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_USUAL = len("2026-11-20T12:00:00.000Z")
"""Of a time in whole milliseconds, which msgspec reads as we do, twice as fast; more digits it rounds."""
FORM = "RFC 3339 with an offset, such as 2026-11-20T12:00:00.000Z"


def parse_time(text: str) -> datetime:
    """An aware UTC time, cut (not rounded) to milliseconds. Raises InvalidValue: no time of years 1 to 9999."""
    return (_usual_time(text) if len(text) == _USUAL else None) or _any_time(text)


def _usual_time(text: str) -> datetime | None:
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    # It stops at a NUL, and takes a time without an offset.
    return moment if text[-1] == "Z" and moment.tzinfo is not None else None


def _any_time(text: str) -> datetime:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidValue(f"{text[:40]!r} is not a time; send {FORM}")
    try:
        return to_milliseconds(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError) as exc:
        raise InvalidValue(f"{text[:40]!r} does not exist on the calendar; send {FORM}") from exc


@overload
def time_text(moment: datetime) -> str: ...
@overload
def time_text(moment: None) -> None: ...
def time_text(moment: datetime | None) -> str | None:
    """An aware UTC time as it is written in answers: 2026-11-20T12:00:00.000Z."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"must be text, {FORM}")  # noqa: TRY004 (pydantic wants ValueError)
    try:
        return parse_time(value)
    except InvalidValue as exc:
        raise ValueError(str(exc)) from exc


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-20T12:00:00.000Z"]}),
]
"""A time in a JSON body."""
