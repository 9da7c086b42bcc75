"""The spool's folder, shared by every process of a host: who owns which files, and how many bytes there may be.

    .room             locked while someone allocates, so that all processes together keep within the bound
    lanes/<name>/     one process's segments; the process holds a lock on the folder. A lane without a lock is a dead
                      process's: whoever gets the lock drains it
    quarantine/       what could not be stored: segments with damage, events that the database refused (NDJSON)

Locks are flock(2): the kernel releases them with the process. The folder must be on a local file system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from store.errors import SpoolRefused, StartRefused
from store.spool.segment import HEAD_BYTES, SALT_BYTES, SegmentName, encode_head

FULL = "full"
DISK = "disk"
BUSY = "busy"
REASONS = (FULL, DISK, BUSY)
"""Why a batch is refused: the bound is reached, the disk did not take it, too much waits for the disk."""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LANES = "lanes"
_QUARANTINE = "quarantine"
_ROOM = ".room"
_REFUSED = "refused.ndjson"
_TEMPORARY = ".new"


class Lane:
    """A folder of segments that this process has the lock of."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def segments(self) -> list[Path]:
        """Its segment files, oldest first."""
        names = sorted(entry.name for entry in os.scandir(self.path))
        return [self.path / name for name in names if SegmentName.parse(name) is not None]

    def sync(self) -> None:
        """Make what was created, renamed or removed in it durable."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the lock back; remove the folder if nothing is in it."""
        # While the lock is held: nobody can take the lane over in between.
        with contextlib.suppress(OSError):
            self.path.rmdir()
        os.close(self._descriptor)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the folder holds, all processes together."""

    bytes: int
    quarantine_bytes: int


class SpoolFolder:
    """The folder, and the bound on it. Every method may wait for the disk: call them in a thread."""

    def __init__(self, path: Path, *, max_bytes: int, lock_seconds: float) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._lock_seconds = lock_seconds
        self._lanes = path / _LANES
        self.quarantine = path / _QUARANTINE

    def prepare(self) -> None:
        """Make the folder. Raises StartRefused: it cannot be written. A full one is no reason: it has to be drained."""
        try:
            for folder in (self.path, self._lanes, self.quarantine):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path / _ROOM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.new_lane().close()
        except OSError as exc:
            if exc.errno in NO_SPACE and self._lanes.is_dir():
                return
            raise StartRefused(
                f"cannot write the spool's folder {self.path} ({exc.strerror or exc}); "
                "TOLLWATCH_SPOOL must name a folder of this user's on a local disk"
            ) from exc

    def new_lane(self) -> Lane:
        """A lane of this process's own. Raises OSError."""
        while True:
            path = self._lanes / f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}"
            path.mkdir(mode=0o700)
            lane = _claim(path)
            if lane is not None:  # else another process looked at it first, took it for a dead one's and removed it
                _sync_folder(self._lanes)
                return lane

    def adopt(self) -> list[Lane]:
        """Lanes of processes that are gone, oldest first; they are ours now."""
        paths = sorted(Path(entry.path) for entry in os.scandir(self._lanes) if entry.is_dir(follow_symlinks=False))
        adopted = []
        for lane in filter(None, map(_claim, paths)):
            for left in lane.path.glob(f"*{_TEMPORARY}"):  # an allocation that a crash cut short; no record is in it
                left.unlink(missing_ok=True)
            if lane.segments():
                adopted.append(lane)
            else:
                lane.close()
        return adopted

    def allocate(self, lane: Lane, number: int, size: int) -> SegmentFile:
        """A new, empty, durable segment of `size` bytes. Raises SpoolRefused: the bound or the disk has no room."""
        with self._room():
            used = self.usage().bytes
            if used + size > self.max_bytes:
                raise SpoolRefused(
                    FULL,
                    f"the spool is full ({used} of {self.max_bytes} bytes, TOLLWATCH_SPOOL_MAX) and the database does "
                    "not answer; nothing was kept, send again later",
                )
            try:
                return _allocate(lane, SegmentName(number=number, salt=secrets.token_bytes(SALT_BYTES)), size)
            except OSError as exc:
                raise disk_refusal(exc) from exc

    def usage(self) -> Usage:
        """Bytes in the folder. Files that vanish meanwhile count as gone."""
        lanes = sum(size for lane in _entries(self._lanes) for _, size in _sizes(Path(lane.path)))
        quarantined = [size for _, size in _sizes(self.quarantine)]
        return Usage(bytes=lanes + sum(quarantined), quarantine_bytes=sum(quarantined))

    def disk_free(self) -> int:
        """Bytes that the file system has left for us."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def put_aside(self, lane: Lane, segment: Path) -> None:
        """Move a whole segment to the quarantine. Takes no space, so it works on a full disk. Raises OSError."""
        segment.rename(self.quarantine / f"{lane.path.name}-{segment.name}")
        lane.sync()

    def put_aside_lines(self, lines: bytes) -> None:
        """Append NDJSON to the quarantine, durable on return. Raises OSError: nothing can be said of the file."""
        with self._room():
            if self.usage().bytes + len(lines) > self.max_bytes:
                raise OSError(errno.ENOSPC, "the spool's bound is reached")
            path = self.quarantine / _REFUSED
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                write_all(descriptor, lines, None)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _sync_folder(self.quarantine)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Alone among the processes that share the folder. Raises SpoolRefused when that takes too long."""
        descriptor = os.open(self.path / _ROOM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._lock_seconds
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise SpoolRefused(BUSY, "another process holds the spool's lock; nothing was kept, send again")
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)


@dataclass(kw_only=True)
class SegmentFile:
    """An open segment that is being written. `end`: what is durable ends there."""

    path: Path
    salt: bytes
    descriptor: int
    size: int
    end: int = HEAD_BYTES

    def append(self, records: bytes) -> None:
        """Write behind what is durable, and make it durable. Raises OSError: the file must not be written again."""
        write_all(self.descriptor, records, self.end)
        sync_data(self.descriptor)
        self.end += len(records)

    def close(self) -> None:
        """No more is written: give back what was allocated and not used."""
        # A failure leaves zeros, or a write that failed, both of which readers know.
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, self.end)
        os.close(self.descriptor)


def disk_refusal(exc: OSError) -> SpoolRefused:
    """What a batch is told that the disk did not take."""
    return SpoolRefused(
        DISK,
        f"the spool's disk did not take the batch ({exc.strerror or exc}) and the database does not answer; "
        "nothing was kept, send again later",
    )


def sync_data(descriptor: int) -> None:
    """The file's bytes are on the disk when this returns. Raises OSError: what is there is unknown."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves them in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def write_all(descriptor: int, data: bytes, offset: int | None) -> None:
    """Write every byte, at `offset` or (None) at the end. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view) if offset is None else os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset = None if offset is None else offset + written


def _allocate(lane: Lane, name: SegmentName, size: int) -> SegmentFile:
    """Under another name until it is whole, so that nobody finds half of a head."""
    temporary, path = lane.path / f"{name}{_TEMPORARY}", lane.path / str(name)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _reserve(descriptor, size)
        write_all(descriptor, encode_head(name.salt, time.time_ns() // 1_000_000), 0)
        os.fsync(descriptor)
        temporary.rename(path)
        lane.sync()
    except OSError:
        os.close(descriptor)
        for left in (temporary, path):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        raise
    return SegmentFile(path=path, salt=name.salt, descriptor=descriptor, size=size)


def _reserve(descriptor: int, size: int) -> None:
    """Take the space now, while nothing depends on it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(min(size, 1024**2))  # macOS
    for offset in range(0, size, len(zeros)):
        write_all(descriptor, zeros[: size - offset], offset)


def _claim(path: Path) -> Lane | None:
    """The lane, if nobody holds it and it is still there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    if _try_lock(descriptor) and _is_still(path, descriptor):
        return Lane(path, descriptor)
    os.close(descriptor)
    return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path names what was opened: its last owner may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except FileNotFoundError:
        return []


def _sizes(folder: Path) -> list[tuple[str, int]]:
    found = []
    for entry in _entries(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append((entry.name, entry.stat(follow_symlinks=False).st_size))
    return found


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
