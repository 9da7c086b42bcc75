"""A body → its events, checked as far as that needs nothing but the event itself.

A body is decoded in one call where nothing in it is suspicious, else event by event (`read_event`), with the same
outcome. What events name is looked up later, for the whole batch (api.resolve).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

import msgspec

from api.body import Body, RawEvent
from api.events import AMOUNTS, EVENT_TYPES, MAX_JSON_BYTES, MAX_JSON_DEPTH, AnyEvent
from api.rejections import MAX_ECHO, Code, Rejected, Rejection, shown
from api.times import parse_time, time_text
from store.errors import InvalidValue
from store.facts import MAX_AMOUNT
from store.identity import time_of
from store.redact import redact_json
from store.settings import Settings

BREATH = 500
"""Events handled between two looks at the event loop, so that a large batch does not hold up everyone else."""

_MAX_DIGITS = 400
"""Digits of a number in a JSON object; jsonb would take 131,072."""
_MAX_EXPONENT = 300

_AMOUNT = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_NUMBER = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?", re.ASCII)
_FIELD = re.compile(r" - at `\$\.?(\w*)[^`]*`$")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(\w+)`")
_BEFORE_COLON = (b" :", b"\t:", b"\n:", b"\r:")

_events = msgspec.json.Decoder(AnyEvent)
_lists = msgspec.json.Decoder(list[AnyEvent])
_encoder = msgspec.json.Encoder()
_untyped = msgspec.json.Decoder(float_hook=str)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CODES = {"type": Code.UNKNOWN_TYPE, "id": Code.INVALID_ID, "ts": Code.INVALID_TIME, "data_as_of": Code.INVALID_TIME}
_TWICE = "the event has a member twice; send each once"
_AMOUNT_FORM = f"must be an integer of atomic units, 0 to {MAX_AMOUNT}, or a string of its digits"


@dataclass(frozen=True, kw_only=True)
class Window:
    """The times that ingest accepts now."""

    oldest: datetime
    newest: datetime
    late_window: timedelta
    clock_skew: timedelta

    @classmethod
    def at(cls, now: datetime, settings: Settings) -> Window:
        """Around `now`, as the settings say."""
        late, skew = settings.late_window, settings.clock_skew
        return cls(oldest=now - late, newest=now + skew, late_window=late, clock_skew=skew)


@dataclass(kw_only=True)
class Decoded:
    """Events in order. `refused`: index → why there is no event (`None` in `events`)."""

    events: Sequence[AnyEvent | None]
    refused: dict[int, Rejected] = field(default_factory=dict)


@dataclass(kw_only=True)
class Batch(Decoded):
    """The events of a body."""

    body: Body

    def rejection(self, index: int, why: Rejected) -> tuple[str, Rejection]:
        """The type of the event, as a label, and what the answer says about it."""
        event_id, event_type = peek(self._raws[index])
        return event_type, Rejection(index=index, id=event_id, code=why.code.value, message=why.message)

    @cached_property
    def _raws(self) -> list[RawEvent]:
        return self.body.split()


async def read_batch(body: Body) -> Batch:
    """Decode a body. Problems (400, 413, 422): it cannot be read as a whole."""
    events = _read_whole(body)
    return await _read_each(body) if events is None else Batch(body=body, events=events)


def _read_whole(body: Body) -> list[AnyEvent] | None:
    """Every event in one go; None: something in the body needs a closer look, one event at a time."""
    octets = body.octets
    # NUL, and the escapes of `:` and its like, which could hide what the count below is to find.
    if b"\\" in octets and (b"\\u0000" in octets or b"\\u003" in octets):
        return None
    try:
        events: list[AnyEvent] = _lists.decode(octets) if not body.lines else _events.decode_lines(octets)
    except (ValueError, RecursionError):
        return None
    if len(events) > body.max_batch or (body.lines and len(events) != len(body.split())):
        return None
    # Encoded again, an event has what was understood: a member that was sent twice is missing once.
    if _encoder.encode(events).count(b":") == octets.count(b":"):
        return events
    try:
        repeated = any(map(_repeats_a_name, body.split()))
    except ValueError:  # UnicodeDecodeError: in an object that is decoded later
        return None
    return None if repeated else events


async def _read_each(body: Body) -> Batch:
    events: list[AnyEvent | None] = []
    batch = Batch(body=body, events=events)
    for index, raw in enumerate(body.split()):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            events.append(read_event(raw))
        except Rejected as exc:
            events.append(None)
            batch.refused[index] = exc.alone()
    return batch


def read_event(raw: RawEvent) -> AnyEvent:
    """Decode one event and check each member by itself. Raises Rejected."""
    try:
        event: AnyEvent = _events.decode(raw)
        repeated = _repeats_a_name(raw)
        nul = b"\\u0000" in bytes(raw) and _holds_nul(_untyped.decode(raw))
    except msgspec.ValidationError as exc:
        raise _as_rejected(str(exc)) from exc
    except RecursionError as exc:
        raise Rejected(Code.MALFORMED, "the event is nested too deeply") from exc
    except ValueError as exc:  # msgspec.DecodeError, UnicodeDecodeError
        raise Rejected(Code.MALFORMED, f"the event is not JSON: {str(exc)[:MAX_ECHO]}") from exc
    if repeated:
        raise Rejected(Code.MALFORMED, _TWICE)
    if nul:
        raise Rejected(Code.INVALID_FIELD, "a text has a NUL character or half of a surrogate pair; leave it out")
    return event


def event_time(event_id: UUID, ts: str | None, window: Window) -> datetime:
    """When the event happened: the time in its UUIDv7, else its `ts`. Raises Rejected."""
    given = None if ts is None else read_time("ts", ts)
    try:
        moment = time_of(event_id) or given
    except OverflowError as exc:
        raise Rejected(Code.IN_FUTURE, "the time in id is after the year 9999; make UUIDv7 of milliseconds") from exc
    if moment is None:
        raise Rejected(Code.MISSING_TS, "id is no UUIDv7, so the event needs ts; better, make the id a UUIDv7")
    if given is not None and given != moment:
        raise Rejected(
            Code.ID_TIME_MISMATCH, f"ts is not the time in id, {time_text(moment)}; leave ts out, or make them agree"
        )
    if moment < window.oldest:
        raise Rejected(
            Code.TOO_LATE, f"{time_text(moment)} is more than {window.late_window} ago; the event may already be stored"
        )
    if moment > window.newest:
        raise Rejected(
            Code.IN_FUTURE,
            f"{time_text(moment)} is more than {window.clock_skew} ahead of us; check the sender's clock",
        )
    return moment


def read_time(field: str, text: str) -> datetime:
    """A member that holds a time. Raises Rejected."""
    try:
        return parse_time(text)
    except InvalidValue as exc:
        raise Rejected(Code.INVALID_TIME, f"{field}: {exc}") from exc


def read_amount(field: str, amount: int | str) -> int:
    """Atomic units: never through a float, no sign, no exponent, no leading zeros. Raises Rejected."""
    if isinstance(amount, str):
        if not _AMOUNT.fullmatch(amount):
            raise Rejected(Code.INVALID_AMOUNT, f"{field} {_AMOUNT_FORM}, not {shown(amount)}")
        amount = int(amount)
    if not 0 <= amount <= MAX_AMOUNT:
        raise Rejected(Code.INVALID_AMOUNT, f"{field} {_AMOUNT_FORM}")
    return amount


def read_json(member: str, raw: msgspec.Raw | msgspec.UnsetType, public: str | None = None) -> str | None:
    """An object, without secrets, encoded again with its numbers as they were. Raises Rejected.

    `public`: a text in it that is no secret.
    """
    if isinstance(raw, msgspec.UnsetType):
        return None
    encoded = bytes(raw)
    if encoded in (b"", b"null"):
        return None
    if len(encoded) > MAX_JSON_BYTES:
        raise Rejected(Code.INVALID_FIELD, f"{member} has {len(encoded)} bytes; at most {MAX_JSON_BYTES} are kept")
    try:
        again = msgspec.json.encode(redact_json(_objects.decode(encoded), MAX_JSON_DEPTH, public))
        repeated = again.count(b":") != encoded.count(b":") and _repeats_a_name(raw)
    except InvalidValue as exc:
        raise Rejected(Code.INVALID_FIELD, f"{member}: {exc}") from exc
    except RecursionError as exc:
        raise Rejected(Code.INVALID_FIELD, f"{member} is nested too deeply") from exc
    except ValueError as exc:  # msgspec's errors and UnicodeDecodeError
        raise Rejected(Code.INVALID_FIELD, f"{member} must be a JSON object: {str(exc)[:MAX_ECHO]}") from exc
    if repeated:
        raise Rejected(Code.MALFORMED, _TWICE)
    return again.decode()


def _exact(number: str) -> msgspec.Raw:
    """A number with a fraction or exponent, kept as written: jsonb is decimal, a float is not."""
    match = _NUMBER.fullmatch(number)
    if match is None or len(number) > _MAX_DIGITS or abs(int(match[3] or 0)) > _MAX_EXPONENT:
        raise InvalidValue("a number in it is too large or too precise")
    return msgspec.Raw(number.encode())


_objects = msgspec.json.Decoder(dict[str, Any], float_hook=_exact)


def peek(raw: RawEvent) -> tuple[str | None, str]:
    """(id as sent, type or `other`) of an event that cannot be decoded, as far as they can be read."""
    try:
        members = _members.decode(raw)
        texts = [msgspec.json.decode(members.get(name, b"null")) for name in ("id", "type")]
    except (ValueError, RecursionError):
        return None, "other"
    event_id, event_type = (text if isinstance(text, str) else None for text in texts)
    return event_id and event_id[:MAX_ECHO], event_type if event_type in EVENT_TYPES else "other"


def _as_rejected(message: str) -> Rejected:
    """Msgspec's message → code, field, what would do. It may echo any length of what was sent, so it is cut."""
    unknown, missing = _UNKNOWN_FIELD.match(message), _MISSING_FIELD.match(message)
    if unknown:
        return Rejected(Code.UNKNOWN_FIELD, f"there is no member {shown(unknown[1])}; see /v1/schemas")
    if missing:
        code = _CODES[missing[1]] if missing[1] in ("id", "type") else Code.MISSING_FIELD
        return Rejected(code, f"{missing[1]} is missing; see /v1/schemas")
    place = _FIELD.search(message)
    if place is None or not place[1]:
        return Rejected(Code.MALFORMED, f"an event is a JSON object: {message[:MAX_ECHO]}")
    field, what = place[1], message[: place.start()]
    if field in AMOUNTS:
        return Rejected(Code.INVALID_AMOUNT, f"{field} {_AMOUNT_FORM}")
    if field == "type":
        return Rejected(Code.UNKNOWN_TYPE, f"type must be one of {', '.join(EVENT_TYPES)}")
    return Rejected(_CODES.get(field, Code.INVALID_FIELD), f"{field}: {what[:MAX_ECHO]}; see /v1/schemas")


def _repeats_a_name(raw: RawEvent) -> bool:
    """Whether a member occurs twice: programs disagree about which one counts."""
    encoded = bytes(raw)
    # As many `":` as names, and no other way to write the end of a name: none is there twice.
    if encoded.count(b'":') == len(_members.decode(raw)) and not any(mark in encoded for mark in _BEFORE_COLON):
        return False
    try:
        _pairs.decode(encoded.decode())
    except _Repeated:
        return True
    return False


class _Repeated(Exception):
    """A JSON object has a member twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Repeated


_pairs = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in name or _holds_nul(item) for name, item in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value
