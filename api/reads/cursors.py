"""Cursors: where the next page starts, opaque to clients.

A cursor holds the range of time and the key of the last row, and a digest that binds them to the project, the list and
its filters. The digest catches accidents, not attackers: whatever a cursor says, a statement reads the caller's own
project and range of time only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

import msgspec

from store.errors import InvalidValue
from store.readers.positions import Position, Window

_DIGEST_BYTES = 12
_MAX_CHARACTERS = 40_000


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """A page's start. `window` is None for lists that are of no range of time."""

    window: Window | None
    position: Position


def encode(cursor: Cursor, binding: bytes) -> str:
    """The cursor as text, good only for the same `binding` (project, list and filters)."""
    body = msgspec.json.encode((cursor.window, cursor.position))
    return base64.urlsafe_b64encode(_digest(body, binding) + body).decode().rstrip("=")


def decode(text: str, position: type[Position], binding: bytes) -> Cursor:
    """The cursor that `encode` wrote. Raises InvalidValue: it is another list's, or was changed."""
    try:
        body = _opened(text, binding)
        window, found = msgspec.json.decode(body, type=tuple[Window | None, position])  # type: ignore[valid-type]
    except ValueError as exc:
        raise InvalidValue(
            "this cursor does not belong to this list with these parameters; send it with the parameters of the page "
            "before, or start again without it"
        ) from exc
    return Cursor(window=window, position=found)


def _opened(text: str, binding: bytes) -> bytes:
    """The body, once its digest fits. ValueError: it does not."""
    if len(text) > _MAX_CHARACTERS:
        raise ValueError("too long")
    raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    body = raw[_DIGEST_BYTES:]
    if not hmac.compare_digest(raw[:_DIGEST_BYTES], _digest(body, binding)):
        raise ValueError("not of this list")
    return body


def _digest(body: bytes, binding: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES, key=hashlib.blake2b(binding).digest()).digest()
