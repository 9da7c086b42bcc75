"""The body of an ingest request: read and decompressed within bounds, split into events where that is needed.

Whatever is wrong with the body as a whole is a Problem (400, 408, 413, 415 or 422) and nothing was stored.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
import zstandard
from fastapi import Request

from api.dependencies import AppState, Caller, declared_octets
from api.limits import STEP, Limits
from api.problems import Problem

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson")
MAX_COMMAS = 1_000_000
"""A body of `1,1,1,…` splits into values that take twenty times its size; 10,000 full events have a fifth of these."""

MAX_MEMBERS = 100
"""Members of gzip, frames of zstd: each costs a decompressor, and an empty one has 20 bytes."""

_USUAL_RATIO = 8
"""Of what events compress to. More is asked for as it comes."""
_GZIP = 16 + zlib.MAX_WBITS
# RFC 9659: over HTTP a window has at most 8 MiB.
_ZSTD_WINDOW = 8 * 1024**2
# Bytes of zstd at a time. A block of four bytes becomes at most 128 KiB, so these become at most 4 MiB.
_ZSTD_SLICE = 128
_ACCEPTED = (
    f"send {JSON} (an array) or {NDJSON[0]} (one event per line), as it is or with Content-Encoding: gzip or zstd"
)
_split_array = msgspec.json.Decoder(list[msgspec.Raw])
# An escape; group 1 is half of a surrogate pair, which no text can hold.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)

RawEvent = msgspec.Raw | bytes


@dataclass(frozen=True, kw_only=True)
class Body:
    """What a client sent, decompressed. `lines`: NDJSON, else one JSON array."""

    octets: bytes
    lines: bool
    max_batch: int

    def split(self) -> list[RawEvent]:
        """The events, each still encoded, in order; empty lines count for nothing. Problems: 400, 413, 422."""
        if self.lines:
            return _bounded_list(_lines(self.octets), self.max_batch)
        if self.octets.count(b",") > MAX_COMMAS:
            raise Problem(413, "too_many_events", f"the body has more than {MAX_COMMAS} values; send fewer at a time")
        return _bounded_list(_elements(self.octets), self.max_batch)


async def read_body(request: Request, held: AppState, caller: Caller) -> Body:
    """The body, within its bounds. Problems: 400, 408, 413, 415, and those of api.limits.

    The body has room in memory until the request ends; bytes that were not announced are charged to the key's rate.
    """
    settings = held.settings
    media_type = _media_type(request)
    coding = _coding(request)
    announced = declared_octets(request, settings) or 0
    await held.limits.hold(request.scope, _first_room(announced, coding, settings.max_body))
    seconds = settings.client_body.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            octets, received = await _collect(request, coding, settings.max_body, held.limits)
    except TimeoutError as exc:
        raise Problem(408, "slow_body", f"the body took more than {seconds:g} s", {"Connection": "close"}) from exc
    if not announced:
        held.limits.admit(caller, octets=received)
    if not octets:
        raise Problem(400, "empty_body", "the body is empty; an empty array is []")
    return Body(octets=octets, lines=media_type in NDJSON, max_batch=settings.max_batch)


def _first_room(announced: int, coding: str | None, limit: int) -> int:
    """Bytes to wait for before a body is read: all that it needs, where that is known, so that it fails no later."""
    if not announced:
        return STEP
    return announced if coding is None else min(limit, max(STEP, _USUAL_RATIO * announced))


def _media_type(request: Request) -> str:
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    media_type = media_type.strip()
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", parameters)
    if media_type not in (JSON, *NDJSON) or (charset and charset[1] not in ("utf-8", "utf8", "us-ascii")):
        raise Problem(415, "unsupported_media_type", _ACCEPTED, {"Accept-Post": ", ".join((JSON, *NDJSON))})
    return media_type


def _coding(request: Request) -> str | None:
    """The key of _CODINGS; None: the body is sent as it is."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    coding = "gzip" if coding == "x-gzip" else coding
    if coding in ("", "identity"):
        return None
    if coding not in _CODINGS:
        raise Problem(415, "unsupported_encoding", _ACCEPTED, {"Accept-Encoding": ", ".join((*_CODINGS, "identity"))})
    return coding


async def _collect(request: Request, coding: str | None, limit: int, limits: Limits) -> tuple[bytes, int]:
    """The decoded body, and how many bytes were sent. Never holds more than `limit` bytes of it and what one chunk
    decompresses to at once."""
    body = bytearray()
    decompressor = Decompressor(coding, limit) if coding else None
    received = 0
    chunks = request.stream()
    async for chunk in chunks:
        received += len(chunk)
        body += decompressor.feed(chunk) if decompressor and received <= limit else chunk
        if max(received, len(body)) > limit:
            await _drain(chunks, limit)
            raise _too_large(limit)
        limits.hold_more(request.scope, len(body))
    if decompressor:
        decompressor.finish()
    return bytes(body), received


async def _drain(chunks: AsyncIterator[bytes], limit: int) -> None:
    """Read on for a while and keep nothing: a client hears the answer only if it is not cut off while it sends."""
    async for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            return


class Member(Protocol):
    """A member of gzip or a frame of zstd, as zlib reads one."""

    @property
    def eof(self) -> bool:
        """Whether its end was read."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given and comes after its end."""
        ...

    @property
    def unconsumed_tail(self) -> bytes:
        """What was given and is still to be read."""
        ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """What `data` decompresses to; reads no further once it has `max_length` bytes. Raises its coding's error."""
        ...


class ZstdFrame:
    """A Member: zstandard has no bound on what it puts out, so it is fed by slices."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self.eof = False
        self.unused_data = self.unconsumed_tail = b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """As zlib does, except that it may be up to 4 MiB beyond `max_length`. Raises ZstdError."""
        output = bytearray()
        fed = 0
        while fed < len(data) and len(output) < max_length and not self._frame.eof:
            output += self._frame.decompress(data[fed : fed + _ZSTD_SLICE])
            fed += _ZSTD_SLICE
        self.eof = self._frame.eof
        if self.eof:
            self.unused_data, self.unconsumed_tail = self._frame.unused_data + data[fed:], b""
        else:
            self.unconsumed_tail = data[fed:]
        return bytes(output)


_CODINGS: dict[str, Callable[[], Member]] = {"gzip": lambda: zlib.decompressobj(_GZIP), "zstd": ZstdFrame}
_ERRORS = (zlib.error, zstandard.ZstdError)


class Decompressor:
    """Decompresses gzip or zstd as it comes, also of several members, and stops soon after the limit."""

    def __init__(self, coding: str, limit: int) -> None:
        self._coding = coding
        self._left = limit
        self._member: Member | None = None
        self._members = 0

    def feed(self, chunk: bytes) -> bytes:
        """What this chunk decompresses to, or more than the limit. Problem 400: it is not what it says."""
        output = bytearray()
        while chunk and len(output) <= self._left:
            if self._member is None or self._member.eof:
                self._member = self._next_member()
            try:
                output += self._member.decompress(chunk, self._left - len(output) + 1)
            except _ERRORS as exc:
                raise _not_valid(self._coding) from exc
            chunk = self._member.unused_data or self._member.unconsumed_tail
        self._left -= len(output)
        return bytes(output)

    def finish(self) -> None:
        """Problem 400: the last member is cut off."""
        if self._member is not None and not self._member.eof:
            raise _not_valid(self._coding)

    def _next_member(self) -> Member:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise _not_valid(self._coding)
        return _CODINGS[self._coding]()


def _lines(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end].strip(b" \t\r")
        if line:
            yield line
        start = end + 1


def _bounded_list(events: Iterator[bytes] | list[msgspec.Raw], max_batch: int) -> list[RawEvent]:
    kept: list[RawEvent] = []
    for event in events:
        if len(kept) == max_batch:
            raise Problem(413, "too_many_events", f"the body has more than {max_batch} events; send fewer at a time")
        kept.append(event)
    return kept


def _elements(body: bytes) -> list[msgspec.Raw]:
    try:
        return _split_array.decode(body)
    except msgspec.ValidationError as exc:
        raise Problem(422, "not_an_array", f"the body must be an array of events; {_ACCEPTED}") from exc
    except RecursionError as exc:
        raise Problem(400, "nested_too_deeply", "the body is nested too deeply") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        disarmed = _disarm(body)
        if disarmed != body:
            return _elements(disarmed)
        raise Problem(400, "not_json", f"the body is not JSON: {str(exc)[:100]}") from exc


def _disarm(body: bytes) -> bytes:
    """Make halves of surrogate pairs NUL characters: the decoder fails on the former, which would sink the batch; an
    event is refused for either."""
    return _ESCAPE.sub(lambda found: b"\\u0000" if found[1] else found[0], body)


def _too_large(limit: int) -> Problem:
    # The rest of the body is not read, so the connection cannot be used again.
    return Problem(
        413,
        "body_too_large",
        f"the body is larger than {limit} bytes, as sent or decompressed",
        {"Connection": "close"},
    )


def _not_valid(coding: str) -> Problem:
    return Problem(
        400, f"not_{coding}", f"the body is not complete, valid {coding} of few members, as Content-Encoding says"
    )
