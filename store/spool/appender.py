"""One process's end of the spool: many batches that wait, one write and one fsync for all of them.

append ──► waiting ──► group ──► thread: write, fdatasync ──► every append of the group returns

One task takes what has come together while the fsync before was under way. Only the thread touches the files that are
being written. After a write or fsync that failed nobody knows what is on the disk: the segment ends before it, is never
written or fsynced again, and the batches of the group are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from store.errors import SpoolRefused
from store.identity import unix_milliseconds
from store.spool.folder import BUSY, Lane, SegmentFile, SpoolFolder, disk_refusal
from store.spool.segment import HEAD_BYTES, MAX_PAYLOAD, OVERHEAD, encode_record, open_segment

GROUP_BYTES = 8 * 1024**2
"""Most that one write takes; a single larger batch goes alone."""
MAX_WAITING_BYTES = 64 * 1024**2
"""Most that waits for the disk, in memory."""
PAUSE_S = 1.0
"""After the disk refused, how long it is not asked again."""


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A segment that nobody writes any more: what can be drained."""

    lane: Lane
    path: Path
    events: int
    oldest_ms: int | None
    bytes: int


@dataclass(frozen=True, kw_only=True)
class SpoolStatus:
    """What this process holds (bytes allocated, events, age of the oldest in seconds), and what all together do.

    `has_room`: one more segment can be made, or one is being written. `refusal`: why batches are refused just now.
    """

    bytes: int
    events: int
    oldest_age_s: float
    folder_bytes: int
    limit_bytes: int
    quarantine_bytes: int
    has_room: bool
    refusal: str | None


@dataclass(kw_only=True)
class _Waiting:
    payload: bytes
    events: int
    kept_ms: int
    done: asyncio.Future[None]


class Spool:
    """Keeps encoded batches. One per process, used from one event loop; `open` it first, `close` it last."""

    def __init__(self, folder: SpoolFolder, *, segment_bytes: int, clock: Callable[[], datetime]) -> None:
        self.folder = folder
        self.refused: Counter[str] = Counter()
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._sealed: list[Segment] = []
        self._just_sealed: deque[Segment] = deque()
        self._lane: Lane | None = None
        self._active: SegmentFile | None = None
        self._active_events = 0
        self._active_oldest: int | None = None
        self._number = 0
        self._refuse_until = 0.0
        self._last_refusal: SpoolRefused | None = None

    async def open(self) -> None:
        """Make the folder and take over what dead processes left. Raises StartRefused; damage is no reason."""
        await self._in_thread(self.folder.prepare)
        await self.adopt()

    async def close(self) -> None:
        """End the write in hand; what is on the spool stays for the next process."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._in_thread(self._seal)
        self._thread.shutdown(wait=True)
        for lane in {id(segment.lane): segment.lane for segment in self._sealed}.values():
            if lane is not self._lane:
                lane.close()
        if self._lane is not None:
            self._lane.close()
            self._lane = None

    async def append(self, payload: bytes, events: int) -> None:
        """Keep a batch: durable on return. Raises SpoolRefused: it is not kept, though it may still turn up once."""
        if self._waiting_bytes + len(payload) > MAX_WAITING_BYTES or len(payload) > MAX_PAYLOAD:
            raise self._counted(
                SpoolRefused(BUSY, "too much waits for the spool's disk; nothing was kept, send again later")
            )
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        one = _Waiting(payload=payload, events=events, kept_ms=unix_milliseconds(self._clock()), done=done)
        self._waiting.append(one)
        self._waiting_bytes += len(payload)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())
        await done

    @property
    def is_empty(self) -> bool:
        """Nothing is kept for the database."""
        return not self._sealed and not self._just_sealed and self._active is None

    @property
    def events(self) -> int:
        """Events that this process keeps for the database; of adopted segments, as their headers say."""
        return self._active_events + sum(segment.events for segment in self._sealed)

    @property
    def bytes(self) -> int:
        """Bytes allocated to them."""
        return (self._active.size if self._active else 0) + sum(segment.bytes for segment in self._sealed)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest of them was kept, milliseconds since 1970."""
        known = [segment.oldest_ms for segment in self._sealed if segment.oldest_ms is not None]
        return min([*known, *([] if self._active_oldest is None else [self._active_oldest])], default=None)

    async def status(self) -> SpoolStatus:
        """Its state, for people and programs. Raises OSError: the folder cannot be read."""
        usage, free = await asyncio.to_thread(lambda: (self.folder.usage(), self.folder.disk_free()))
        now = unix_milliseconds(self._clock())
        return SpoolStatus(
            bytes=self.bytes,
            events=self.events,
            oldest_age_s=0.0 if self.oldest_ms is None else max(0.0, (now - self.oldest_ms) / 1000),
            folder_bytes=usage.bytes,
            limit_bytes=self.folder.max_bytes,
            quarantine_bytes=usage.quarantine_bytes,
            has_room=self._active is not None or min(self.folder.max_bytes - usage.bytes, free) >= self._segment_bytes,
            refusal=None if self.last_refusal is None else str(self.last_refusal),
        )

    @property
    def last_refusal(self) -> SpoolRefused | None:
        """Why the spool refuses just now."""
        return self._last_refusal if time.monotonic() < self._refuse_until else None

    async def next_segment(self) -> Segment | None:
        """The oldest segment, which nobody writes any more; None: nothing is kept."""
        if not self._sealed:
            await self._in_thread(self._seal)
        return self._sealed[0] if self._sealed else None

    async def finish(self, segment: Segment, *, put_aside: bool) -> None:
        """All of it is committed: remove it or, because it holds damage, move it to the quarantine.

        Raises OSError: it is still there, and the next process will commit it once more, which changes nothing.
        """
        left = any(other.lane is segment.lane for other in self._sealed if other is not segment)
        try:
            await self._in_thread(partial(self._remove, segment, put_aside=put_aside, left=left))
        finally:
            self._sealed.remove(segment)

    def put_behind(self) -> None:
        """The oldest segment cannot be drained now: another one first."""
        self._sealed = [*self._sealed[1:], *self._sealed[:1]]

    async def adopt(self) -> None:
        """Take over lanes whose process has died since."""
        # Not in the thread that writes: a look at many files is no reason for a batch to wait.
        found = await asyncio.to_thread(self._survey_adopted)
        if not found:
            return
        self._sealed = sorted([*found, *self._sealed], key=lambda one: (one.lane.path.name, one.path.name))

    async def _write_all(self) -> None:
        while self._waiting:
            group = self._take_group()
            why: Exception | None
            try:
                kept, why = await self._in_thread(partial(self._write_group, group))
            except Exception as exc:  # noqa: BLE001 (whoever waits must hear of it)
                kept, why = 0, exc
            for index, one in enumerate(group):
                if one.done.done():  # its request was cancelled
                    continue
                if index < kept:
                    one.done.set_result(None)
                else:
                    one.done.set_exception(self._refusal(why))

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].payload) <= GROUP_BYTES):
            group.append(self._waiting.popleft())
            size += len(group[-1].payload)
        self._waiting_bytes -= size
        return group

    def _refusal(self, why: Exception | None) -> Exception:
        if isinstance(why, SpoolRefused):
            # Each request its own: an exception that is raised twice collects the tracebacks of both.
            return self._counted(SpoolRefused(why.reason, str(why)))
        return why or AssertionError("a batch was neither kept nor refused")

    def _counted(self, refusal: SpoolRefused) -> SpoolRefused:
        self.refused[refusal.reason] += 1
        return refusal

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            while self._just_sealed:
                self._sealed.append(self._just_sealed.popleft())

    # What follows runs in the thread.

    def _write_group(self, group: list[_Waiting]) -> tuple[int, SpoolRefused | None]:
        """How many of the group are durable, and why the others are not."""
        kept = 0
        refusal = self.last_refusal
        while kept < len(group) and refusal is None:
            try:
                kept += self._write_some(group[kept:])
            except SpoolRefused as exc:
                refusal = exc
            except OSError as exc:
                self._seal()
                refusal = disk_refusal(exc)
            if refusal is not None:
                self._last_refusal, self._refuse_until = refusal, time.monotonic() + PAUSE_S
        return kept, refusal

    def _write_some(self, group: list[_Waiting]) -> int:
        """Write as many as fit into the active segment, which is a new one if none does. Returns how many."""
        if self._active is not None and self._active.end + OVERHEAD + len(group[0].payload) > self._active.size:
            self._seal()
        if self._active is None:
            self._allocate(HEAD_BYTES + OVERHEAD + len(group[0].payload))
        active = self._active
        assert active is not None
        records: list[bytes] = []
        end = active.end
        for one in group:
            if end + OVERHEAD + len(one.payload) > active.size:
                break
            records.append(encode_record(one.payload, one.events, one.kept_ms, active.salt, end))
            end += len(records[-1])
        active.append(b"".join(records))
        self._active_events += sum(one.events for one in group[: len(records)])
        if self._active_oldest is None:
            self._active_oldest = group[0].kept_ms
        return len(records)

    def _allocate(self, least: int) -> None:
        if self._lane is None:
            try:
                self._lane = self.folder.new_lane()
            except OSError as exc:
                raise disk_refusal(exc) from exc
        self._active = self.folder.allocate(self._lane, self._number, max(self._segment_bytes, least))
        self._number += 1

    def _seal(self) -> None:
        """Write the active segment no more. Without a record in it, it goes."""
        active, lane = self._active, self._lane
        if active is None or lane is None:
            return
        active.close()
        if self._active_events or active.end > HEAD_BYTES:
            segment = Segment(
                lane=lane, path=active.path, events=self._active_events, oldest_ms=self._active_oldest, bytes=active.end
            )
            self._just_sealed.append(segment)
        else:
            with contextlib.suppress(OSError):
                active.path.unlink()
        self._active, self._active_events, self._active_oldest = None, 0, None

    def _remove(self, segment: Segment, *, put_aside: bool, left: bool) -> None:
        try:
            if put_aside:
                self.folder.put_aside(segment.lane, segment.path)
            else:
                segment.path.unlink()
        finally:
            if not left and segment.lane is not self._lane:
                segment.lane.close()

    def _survey_adopted(self) -> list[Segment]:
        return [_survey(lane, path) for lane in self.folder.adopt() for path in lane.segments()]


def _survey(lane: Lane, path: Path) -> Segment:
    events, oldest, size = 0, None, 0
    # What cannot be read now is said when it is drained.
    with contextlib.suppress(OSError), open_segment(path) as reader:
        size = path.stat().st_size
        events, oldest = reader.survey()
    return Segment(lane=lane, path=path, events=events, oldest_ms=oldest, bytes=size)
