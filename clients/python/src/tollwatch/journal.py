"""The disk buffer: events in append-only segment files, until Tollwatch has answered for them.

    folder/<seat>/lock           held for as long as the process lives
    folder/<seat>/00000001.seg   lines `crc32 id json`

Every process has a seat of its own, so any number of them may share a folder. A process that starts takes over the
seats whose processes are gone. A batch is written with one write and one fsync; a line whose checksum is wrong (a torn
tail, a bad disk) is left out. A segment is deleted when all its events were answered for; one that was answered for in
part is sent again as a whole after a crash, which Tollwatch recognises by the ids.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tollwatch.errors import ConfigError
from tollwatch.events import Item

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

SEGMENTS = 16
"""So many segments fill the bound; when it is reached the oldest is dropped."""


@dataclass(eq=False)
class Segment:
    """One file. `events` were written; of these `read` have been read, up to byte `offset` of `size`."""

    path: Path
    events: int = 0
    size: int = 0
    read: int = 0
    offset: int = 0
    in_hand: int = 0
    sealed: bool = False
    dropped: bool = False


@dataclass(frozen=True)
class Batch:
    """Events read, and the segment that they are of."""

    items: list[Item]
    segment: Segment


class Seat:
    """A folder that one living process owns."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def take(cls, folder: Path) -> Seat | None:
        """This folder, made if need be; None when another process has it, or has just removed it."""
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / "lock").stat().st_ino == os.fstat(lock).st_ino:
                return cls(folder, lock)
        except (BlockingIOError, FileNotFoundError):
            pass  # another process has it, or removed it as it left: both mean None
        os.close(lock)
        return None

    def leave(self) -> None:
        """Remove what is empty, and let go of it."""
        with contextlib.suppress(OSError):
            if not any(self.folder.glob("*.seg")):
                (self.folder / "lock").unlink()
                self.folder.rmdir()
        with contextlib.suppress(OSError):
            os.close(self._lock)

    def forget(self) -> None:
        """In the child of a fork: the seat is the parent's."""
        with contextlib.suppress(OSError):
            os.close(self._lock)


@dataclass
class Losses:
    """What a call could not keep."""

    full: int = 0
    corrupt: int = 0


@dataclass
class Journal:
    """The segments of this process and of those that are gone. `backlog` are the events in them."""

    folder: Path
    max_bytes: int
    backlog: int = 0
    recovered: int = 0
    losses: Losses = field(default_factory=Losses)

    def __post_init__(self) -> None:
        """Raises ConfigError when the folder cannot be used."""
        if fcntl is None:  # pragma: no cover - Windows
            raise ConfigError("a disk buffer needs file locks of POSIX, which this system lacks; leave `disk` out")
        self._lock = threading.Lock()
        self._segments: deque[Segment] = deque()
        self._bytes = 0
        self._number = 0
        self._output: IO[bytes] | None = None
        self._seats: list[Seat] = []
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = self._sit_down()
            self._take_over()
        except OSError as exc:
            raise ConfigError(f"the disk buffer {self.folder} cannot be used: {exc}; name a folder that can") from exc

    # Writing

    def append(self, items: Sequence[Item]) -> None:
        """Write and fsync. Raises OSError: nothing of it is kept, and the next call starts a new segment."""
        data = b"".join(_line(item) for item in items)
        with self._lock:
            self._make_room(len(data))
            segment, output = self._current()
            try:
                _write_all(output, data)
                os.fsync(output.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(output.fileno(), segment.size)
                self._seal()
                raise
            segment.size += len(data)
            segment.events += len(items)
            self._bytes += len(data)
            self.backlog += len(items)
            if segment.size >= self.max_bytes // SEGMENTS:
                self._seal()

    def _current(self) -> tuple[Segment, IO[bytes]]:
        if self._output is None:
            self._number += 1
            segment = Segment(self._own.folder / f"{self._number:08}.seg")
            self._output = segment.path.open("ab", buffering=0)
            self._segments.append(segment)
            _sync_folder(self._own.folder)
        return self._segments[-1], self._output

    def _seal(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None
            self._segments[-1].sealed = True

    def _make_room(self, size: int) -> None:
        while self._segments and self._bytes + size > self.max_bytes:
            if not self._segments[0].sealed:
                self._seal()
            oldest = self._segments.popleft()
            oldest.dropped = True
            lost = oldest.events - oldest.read
            self.losses.full += lost
            self.backlog -= lost
            self._delete(oldest)

    # Reading

    def read(self, most_events: int, most_bytes: int) -> Batch | None:
        """The oldest events that are not in hand; None when there are none."""
        with self._lock:
            for segment in list(self._segments):
                if segment.read < segment.events:
                    batch = self._read(segment, most_events, most_bytes)
                    if batch.items:
                        return batch
        return None

    def _read(self, segment: Segment, most_events: int, most_bytes: int) -> Batch:
        items: list[Item] = []
        try:
            with segment.path.open("rb") as source:
                source.seek(segment.offset)
                for line in source:
                    if segment.offset >= segment.size:
                        break  # the rest of a write that failed
                    item = _parse(line)
                    if item is not None:
                        if items and (len(items) == most_events or len(item.body) > most_bytes):
                            break
                        items.append(item)
                        most_bytes -= len(item.body)
                    segment.offset += len(line)
        except OSError:
            segment.offset = segment.size
        segment.read += len(items)
        segment.in_hand += len(items)
        if segment.offset >= segment.size and segment.read < segment.events:
            missing = segment.events - segment.read  # written, and not readable any more
            segment.read = segment.events
            self.losses.corrupt += missing
            self.backlog -= missing
        self._tidy(segment)
        return Batch(items, segment)

    def release(self, batch: Batch) -> None:
        """The events of the batch were answered for."""
        with self._lock:
            self.backlog -= len(batch.items)
            batch.segment.in_hand -= len(batch.items)
            self._tidy(batch.segment)

    def give_back(self, batch: Batch) -> None:
        """They were not: the next process sends them."""
        with self._lock:
            batch.segment.in_hand -= len(batch.items)
            if batch.segment.dropped:
                self.losses.full += len(batch.items)
                self.backlog -= len(batch.items)

    def _tidy(self, segment: Segment) -> None:
        done = not segment.dropped and segment.read >= segment.events and not segment.in_hand
        if not done or not segment.events:
            return
        if not segment.sealed:
            self._seal()
        self._segments.remove(segment)
        segment.dropped = True
        self._delete(segment)

    def _delete(self, segment: Segment) -> None:
        self._bytes -= segment.size
        with contextlib.suppress(OSError):
            segment.path.unlink()

    # Seats

    def _sit_down(self) -> Seat:
        while True:
            seat = Seat.take(self.folder / f"{os.getpid()}-{secrets.token_hex(4)}")
            if seat is not None:
                return seat

    def _take_over(self) -> None:
        for folder in sorted(self.folder.iterdir()):
            if folder == self._own.folder or not folder.is_dir():
                continue
            seat = Seat.take(folder)
            if seat is not None:
                self._seats.append(seat)
                for path in sorted(folder.glob("*.seg")):
                    self._adopt(path)
        self._make_room(0)

    def _adopt(self, path: Path) -> None:
        segment = Segment(path, sealed=True)
        with contextlib.suppress(OSError), path.open("rb") as source:
            for line in source:
                segment.size += len(line)
                segment.events += _parse(line) is not None
        if not segment.events:
            path.unlink(missing_ok=True)
            return
        self._segments.append(segment)
        self._bytes += segment.size
        self.backlog += segment.events
        self.recovered += segment.events

    def close(self) -> None:
        """Close files and leave the seats; what is not answered for stays for the next process."""
        with self._lock:
            if self._output is not None:
                self._seal()
            for seat in (*self._seats, self._own):
                seat.leave()

    def forget(self) -> None:
        """In the child of a fork: everything here is the parent's."""
        if self._output is not None:
            self._output.close()
        for seat in (*self._seats, self._own):
            seat.forget()

    def take_losses(self) -> Losses:
        """What was lost since the last call."""
        with self._lock:
            losses, self.losses = self.losses, Losses()
        return losses


def _line(item: Item) -> bytes:
    rest = item.id.encode() + b" " + item.body
    return b"%08x " % zlib.crc32(rest) + rest + b"\n"


def _parse(line: bytes) -> Item | None:
    rest = line[9:-1]
    if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(rest):
        return None
    ident, _, body = rest.partition(b" ")
    return Item(ident.decode("ascii", "replace"), body)


def _write_all(output: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[output.write(rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def segments_of(folder: Path) -> Iterator[Path]:
    """The segment files under a folder, for tests and curious people."""
    return folder.glob("*/*.seg")
