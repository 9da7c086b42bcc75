"""One segment file of the spool: a head, records one behind the other, zeros to the end of what was allocated.

    head     magic (8), salt (16), made at (8)
    record   mark (8), payload's length (4), events in it (4), kept at (8), CRC-32 of these (4), payload, digest (16)

Integers are little-endian, times milliseconds since 1970. The salt is drawn for each file and is in its name too. The
digest is BLAKE2b of header and payload, keyed by the salt and bound to the offset, so nothing that is left of another
file, or that a client sent inside of a payload, is taken for a record.

What does not read as a record is skipped; a later one is found by its mark. Damage that nothing follows is *torn*
when its end is missing: a write that a crash cut short, acknowledged to nobody. All other damage is *corrupt*.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MAGIC = b"TWSPOOL1"
SUFFIX = ".seg"
SALT_BYTES = 16
DIGEST_BYTES = 16
MARK_BYTES = 8
MAX_PAYLOAD = 256 * 1024**2
"""A length beyond this is damage, whatever the checksum says; reading allocates as much."""
_WINDOW = 1024**2
"""Bytes looked at in one go while searching for the next record."""

_HEAD = struct.Struct(f"<8s{SALT_BYTES}sq")
_FIELDS = struct.Struct(f"<{MARK_BYTES}sIIq")
_CHECK = struct.Struct("<I")
HEAD_BYTES = _HEAD.size
HEADER_BYTES = _FIELDS.size + _CHECK.size
OVERHEAD = HEADER_BYTES + DIGEST_BYTES
"""Bytes that a record takes beyond its payload."""
_NAME = re.compile(rf"(\d{{8}})-([0-9a-f]{{{2 * SALT_BYTES}}})\{SUFFIX}")


class Damage(Enum):
    """What was found where a record should be."""

    TORN = "torn"
    CORRUPT = "corrupt"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one append kept: bytes, how many events they hold, when (milliseconds since 1970), where in the file."""

    payload: bytes
    events: int
    kept_ms: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class SegmentName:
    """What a segment's file name says. Raises nothing: `parse` returns None for other files."""

    number: int
    salt: bytes

    def __str__(self) -> str:
        return f"{self.number:08d}-{self.salt.hex()}{SUFFIX}"

    @staticmethod
    def parse(name: str) -> SegmentName | None:
        """The name's parts; None: no segment."""
        match = _NAME.fullmatch(name)
        return SegmentName(number=int(match[1]), salt=bytes.fromhex(match[2])) if match else None


def encode_head(salt: bytes, made_ms: int) -> bytes:
    """The first bytes of a file."""
    return _HEAD.pack(MAGIC, salt, made_ms)


def encode_record(payload: bytes, events: int, kept_ms: int, salt: bytes, offset: int) -> bytes:
    """A record that stands at `offset`."""
    fields = _FIELDS.pack(_mark(salt), len(payload), events, kept_ms)
    header = fields + _CHECK.pack(zlib.crc32(fields))
    return b"".join((header, payload, _digest(header, payload, salt, offset)))


class Reader:
    """Reads the records of an open file, one in memory at a time. `damage` is known when the iteration has ended."""

    def __init__(self, descriptor: int, salt: bytes) -> None:
        self.damage: Damage | None = None
        self._descriptor = descriptor
        self._salt = salt
        self._mark = _mark(salt)
        self._size = os.fstat(descriptor).st_size

    def __iter__(self) -> Iterator[Record]:
        """Every record that is whole, in order. Raises OSError."""
        offset = HEAD_BYTES
        if self._size and os.pread(self._descriptor, HEAD_BYTES, 0)[: _HEAD.size - 8] != MAGIC + self._salt:
            # A torn head has nothing behind it; else what follows proves that the head was whole once.
            self.damage = Damage.TORN if self._only_zeros(HEAD_BYTES) else Damage.CORRUPT
        while offset < self._size:
            record = self._record_at(offset)
            if record is None:
                found = self._next_after(offset)
                if found is None:
                    self._judge_tail(offset)
                    return
                self.damage = Damage.CORRUPT
                record = found
            yield record
            offset = record.offset + OVERHEAD + len(record.payload)

    def survey(self) -> tuple[int, int | None]:
        """Events in it and when the oldest was kept, by headers alone: a quick look, which damage cuts short."""
        events, oldest, offset = 0, None, HEAD_BYTES
        while (header := self._header_at(offset)) is not None:
            length, count, kept_ms = header
            events += count
            oldest = kept_ms if oldest is None else min(oldest, kept_ms)
            offset += OVERHEAD + length
        return events, oldest

    def _header_at(self, offset: int) -> tuple[int, int, int] | None:
        header = os.pread(self._descriptor, HEADER_BYTES, offset)
        if len(header) < HEADER_BYTES:
            return None
        mark, length, events, kept_ms = _FIELDS.unpack_from(header)
        if mark != self._mark or _CHECK.unpack_from(header, _FIELDS.size)[0] != zlib.crc32(header[: _FIELDS.size]):
            return None
        fits = length <= MAX_PAYLOAD and offset + OVERHEAD + length <= self._size
        return (length, events, kept_ms) if fits else None

    def _record_at(self, offset: int) -> Record | None:
        found = self._header_at(offset)
        if found is None:
            return None
        length, events, kept_ms = found
        whole = os.pread(self._descriptor, OVERHEAD + length, offset)
        header, payload = whole[:HEADER_BYTES], whole[HEADER_BYTES : HEADER_BYTES + length]
        if whole[HEADER_BYTES + length :] != _digest(header, payload, self._salt, offset):
            return None
        return Record(payload=payload, events=events, kept_ms=kept_ms, offset=offset)

    def _next_after(self, damaged: int) -> Record | None:
        """The first whole record behind a damaged place."""
        start = damaged + 1
        while start + OVERHEAD <= self._size:
            window = os.pread(self._descriptor, _WINDOW, start)
            found = window.find(self._mark)
            while found >= 0:
                record = self._record_at(start + found)
                if record is not None:
                    return record
                found = window.find(self._mark, found + 1)
            # A mark may stand across two windows.
            start += max(1, len(window) - MARK_BYTES + 1)
        return None

    def _judge_tail(self, offset: int) -> None:
        """Nothing whole follows `offset`."""
        if self.damage is Damage.CORRUPT or self._only_zeros(offset):
            return
        self.damage = Damage.TORN if self._lacks_its_end(offset) else Damage.CORRUPT

    def _lacks_its_end(self, offset: int) -> bool:
        """Whether what is there is the beginning of a record, with zeros or the file's end where its end should be."""
        header = os.pread(self._descriptor, HEADER_BYTES, offset).ljust(HEADER_BYTES, b"\0")
        fields, check = header[: _FIELDS.size], header[_FIELDS.size :]
        mark, length, *_ = _FIELDS.unpack(fields)
        expected = _CHECK.pack(zlib.crc32(fields))
        if mark != self._mark or check != expected:
            begun = not any(check) or (mark == self._mark and _begins(check, expected))
            return begun and self._only_zeros(offset + HEADER_BYTES)
        if length > MAX_PAYLOAD or offset + OVERHEAD + length > self._size:
            return True
        rest = os.pread(self._descriptor, length + DIGEST_BYTES, offset + HEADER_BYTES)
        return _begins(rest[length:], _digest(header, rest[:length], self._salt, offset))

    def _only_zeros(self, offset: int) -> bool:
        while chunk := os.pread(self._descriptor, _WINDOW, offset):
            if chunk.count(0) != len(chunk):
                return False
            offset += len(chunk)
        return True


@contextmanager
def open_segment(path: Path) -> Iterator[Reader]:
    """A reader of a segment file, whose name must be one. Raises OSError."""
    name = SegmentName.parse(path.name)
    assert name is not None, path
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Reader(descriptor, name.salt)
    finally:
        os.close(descriptor)


def _begins(found: bytes, expected: bytes) -> bool:
    """Whether `found` is the beginning of what was expected, then zeros."""
    return expected.startswith(found.rstrip(b"\0"))


def _mark(salt: bytes) -> bytes:
    return hashlib.blake2b(salt, digest_size=MARK_BYTES, person=b"tollwatch mark").digest()


def _digest(header: bytes, payload: bytes, salt: bytes, offset: int) -> bytes:
    # The offset is in the hash's own salt: the same bytes elsewhere are another record.
    state = hashlib.blake2b(header, digest_size=DIGEST_BYTES, key=salt, salt=offset.to_bytes(16, "little"))
    state.update(payload)
    return state.digest()
