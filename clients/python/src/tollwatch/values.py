"""Members of events: each function makes a value one that Tollwatch accepts, or raises InvalidEvent.

What is a name, an id or money is refused when it is wrong; what is prose is cut and cleaned.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from tollwatch import base58
from tollwatch.errors import InvalidEvent

Member = Callable[[str, object], object]
"""(name of the member, value) → what is sent."""

MAX_AMOUNT = 2**63 - 1
MAX_JSON_BYTES = 8192
MAX_DEPTH = 12
OMITTED = "omitted"
"""The only member of a JSON object that was too large: how large it was."""

_NETWORK = re.compile(r"solana:[-_a-zA-Z0-9]{1,32}")
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_SAFE_FLOAT = 1e300
_SAFE_INTEGER = 2**63


def clean(text: str) -> str:
    """Without NUL and halves of surrogate pairs, which no database takes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def text(most: int, *, cut: bool = False) -> Member:
    """A text of 1 to `most` characters; `cut`: what is longer is shortened."""

    def make(name: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise InvalidEvent(name, "must be a text that is not empty")
        value = clean(value)
        if len(value) > most and not cut:
            raise InvalidEvent(name, f"has {len(value)} characters; at most {most}")
        return value[:most]

    return make


def prose(name: str, value: object) -> str:
    """What went wrong, in words: at most 1,000 characters."""
    if not isinstance(value, str):
        raise InvalidEvent(name, "must be a text")
    return clean(value)[:1000]


def choice(allowed: tuple[str, ...]) -> Member:
    """One of these words."""

    def make(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise InvalidEvent(name, f"must be one of {', '.join(allowed)}")
        return value

    return make


def integer(most: int, least: int = 0) -> Member:
    """An integer from `least` to `most`."""

    def make(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidEvent(name, f"must be an integer, {least} to {most}")
        return value

    return make


def amount(name: str, value: object) -> str:
    """Atomic units: an integer or its digits, never a float."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value) or int(value) > MAX_AMOUNT:
        raise InvalidEvent(name, f"must be an integer of atomic units, 0 to {MAX_AMOUNT}")
    return value


def flag(name: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidEvent(name, "must be true or false")
    return value


def score(name: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidEvent(name, "must be a finite number")
    return float(value)


def uuid(name: str, value: object) -> str:
    """A UUID, as it is written with hyphens."""
    try:
        return str(value if isinstance(value, UUID) else UUID(str(value)))
    except ValueError:
        raise InvalidEvent(name, "must be a UUID") from None


def event_id(name: str, value: object) -> str:
    """A UUID of version 7: its time is the event's."""
    written = uuid(name, value)
    if UUID(written).version != 7:
        raise InvalidEvent(name, "must be a UUID of version 7")
    return written


def network(name: str, value: object) -> str:
    """A CAIP-2 id of a Solana network."""
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise InvalidEvent(name, "must be the CAIP-2 id of a Solana network, such as solana:5eykt4Us…")
    return value


def base58_of(size: int) -> Member:
    """Base58 of so many bytes."""

    def make(name: str, value: object) -> str:
        if not isinstance(value, str) or _size(value) != size:
            raise InvalidEvent(name, f"must be base58 of {size} bytes")
        return value

    return make


@lru_cache(4096)
def _size(text: str) -> int:
    try:
        return len(base58.decode(text))
    except ValueError:
        return -1


def digest(name: str, value: object) -> str:
    """SHA-256, in hexadecimal."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise InvalidEvent(name, "must be 64 hexadecimal digits")
    return value


def time(name: str, value: object) -> str:
    """An aware datetime, or RFC 3339 with an offset; to the millisecond."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if moment.tzinfo is None:
            raise InvalidEvent(name, "needs an offset from UTC")
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError) as exc:
        raise exc if isinstance(exc, InvalidEvent) else InvalidEvent(name, "must be a time of RFC 3339") from None


def audit_type(known: tuple[str, ...]) -> Member:
    """One of Tollwatch's audit types, or one's own `x.…`."""
    own = re.compile(r"x\.[A-Za-z0-9_.-]{1,98}", re.ASCII)

    def make(name: str, value: object) -> str:
        if not isinstance(value, str) or (value not in known and not own.fullmatch(value)):
            raise InvalidEvent(name, f"must be one of {', '.join(known)}, or x.… of your own")
        return value

    return make


def document(name: str, value: object) -> object:
    """An object of at most 8,192 bytes; what JSON does not know is written as text, what is too large is omitted."""
    if not isinstance(value, Mapping):
        raise InvalidEvent(name, "must be an object")
    plain = _plain(value, MAX_DEPTH)
    size = len(dumps(plain))
    return plain if size <= MAX_JSON_BYTES else {OMITTED: f"{size} bytes"}


def dumps(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < _SAFE_INTEGER else str(value)
    if isinstance(value, float):
        safe = value == 0 or 1 / _SAFE_FLOAT < abs(value) < _SAFE_FLOAT
        return float(value) if safe else str(value)
    if depth and isinstance(value, Mapping):
        return {clean(str(name)): _plain(item, depth - 1) for name, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    return clean(str(value))
