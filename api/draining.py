"""The drainer: what is on the spool → the database, in order, one transaction at a time, leaving room for live traffic.

    segment ──► records ──► drafts ──► resolve ──► FactWriter.write ──► … ──► segment removed

A segment is removed when all of it is committed; a crash before that means that it is committed again, which changes
nothing. What cannot be stored goes to the quarantine with its reason, event by event, and holds up nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from api.spooling import SpoolingKeeper
from store.backlog import Backlog, Outcome, Unstored
from store.drafts import Drafts
from store.errors import DatabaseConflict, DatabaseError, DatabaseTimeout, DatabaseUnavailable, SpoolRefused
from store.logs import event
from store.presence import Presence
from store.spool.appender import Segment, Spool
from store.spool.segment import Damage, Reader, Record, open_segment

TICK_S = 0.25
"""Between two looks at an empty spool, or two questions to a database that is away."""
ADOPT_S = 5.0
"""Between two looks for lanes whose process has died."""
FAILED_S = 1.0
"""After a batch that the database did not take."""
BATCH_EVENTS = 2000
"""Most events of one transaction, unless a single record has more."""
BATCH_BYTES = 8 * 1024**2
MAX_PAUSE_S = 0.5
"""Longest that the drain steps back after one transaction."""

DRAIN_FAILED = "drain_failed"
SEGMENT_DAMAGED = "spool_segment_damaged"
SEGMENT_STAYS = "spool_segment_stays"
EVENT_ASIDE = "spool_event_put_aside"

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Progress:
    """How far a segment is committed. `put_aside`: it holds something that is nowhere else."""

    segment: Segment
    done: int = 0
    put_aside: bool = False
    touched: tuple[datetime, datetime] | None = None


class Drainer:
    """Empties the spool. One per process; `run` until cancelled."""

    def __init__(
        self,
        spool: Spool,
        keeper: SpoolingKeeper,
        presence: Presence,
        backlog: Backlog,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._spool = spool
        self._keeper = keeper
        self._presence = presence
        self._backlog = backlog
        self._progress: _Progress | None = None
        self._question: asyncio.Task[None] | None = None
        self._most_events = BATCH_EVENTS
        self._adopt_at = 0.0
        self._has_failed = False
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.results: Counter[str] = Counter()
        self.damaged: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to drain in the background."""
        self._running = asyncio.create_task(self.run())

    async def stop(self, seconds: float) -> None:
        """End after the transaction in hand, or after `seconds`. What is left stays on the spool."""
        self._stopping.set()
        tasks = {task for task in (self._running, self._question) if task is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()

    async def run(self) -> None:
        """Drain, wait, drain, until `stop`."""
        while not self._stopping.is_set():
            self._has_failed = False
            try:
                worked = await self.step()
            except Exception as exc:  # noqa: BLE001 (the drain goes on whatever one segment holds)
                worked = False
                self._has_failed = True
                event(_log, logging.ERROR, DRAIN_FAILED, cause=exc)
                self._give_way()
            if not worked:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), FAILED_S if self._has_failed else TICK_S)

    async def step(self) -> bool:
        """Drain one segment, if there is one and the database answers. Whether one was finished."""
        if time.monotonic() >= self._adopt_at:
            self._adopt_at = time.monotonic() + ADOPT_S
            await self._spool.adopt()
        if self._spool.is_empty and not self._keeper.is_spooling and not self._presence.is_away:
            return False
        if not await self._answers():
            return False
        segment = await self._spool.next_segment()
        if segment is None:
            self._keeper.resume()
            return False
        try:
            await self._drain(segment)
        except DatabaseError as exc:
            self._failed(exc)
            return False
        return True

    async def _answers(self) -> bool:
        """Ask the database, one question at a time; one that hangs ends with the connection."""
        if self._question is None:
            self._question = asyncio.create_task(self._backlog.ping())
        done, _ = await asyncio.wait({self._question}, timeout=self._backlog.patience)
        if not done:
            self._presence.lost(DatabaseTimeout())
            return False
        question, self._question = self._question, None
        try:
            question.result()
        except DatabaseError as exc:
            self._presence.lost(exc)
            return False
        self._presence.back()
        return True

    def _failed(self, exc: DatabaseError) -> None:
        """The database did not take a batch. Its content is not the reason: the backlog has dealt with that."""
        event(_log, logging.WARNING, DRAIN_FAILED, error=exc)
        self._has_failed = True
        if isinstance(exc, DatabaseTimeout):
            self._most_events = max(1, self._most_events // 2)
        if isinstance(exc, DatabaseUnavailable | DatabaseTimeout):
            self._keeper.suspend(exc)
        elif not isinstance(exc, DatabaseConflict):
            self._give_way()

    def _give_way(self) -> None:
        """The next time another segment is first, so that none can hold up the others."""
        self._spool.put_behind()
        self._progress = None

    async def _drain(self, segment: Segment) -> None:
        if self._progress is None or self._progress.segment is not segment:
            self._progress = _Progress(segment=segment)
        progress = self._progress
        damage: Damage | None = None
        try:
            with open_segment(segment.path) as reader:
                async for batch in self._batches(reader, progress.done):
                    await self._commit(batch, progress)
                    progress.done = batch[-1].offset
                    if self._stopping.is_set():
                        return
                damage = reader.damage
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            damage = Damage.CORRUPT
        if progress.touched is not None:
            await self._patiently(self._backlog.refresh(*progress.touched))
        await self._finish(progress, damage)

    async def _batches(self, reader: Reader, after: int) -> AsyncIterator[list[Record]]:
        """Records behind an offset, a transaction's worth at a time, read in a thread."""
        records = iter(reader)
        while batch := await asyncio.to_thread(self._take, records, after):
            yield batch

    def _take(self, records: Iterator[Record], after: int) -> list[Record]:
        batch: list[Record] = []
        events = size = 0
        for record in records:
            if record.offset <= after:
                continue
            batch.append(record)
            events += record.events
            size += len(record.payload)
            if events >= self._most_events or size >= BATCH_BYTES:
                break
        return batch

    async def _commit(self, batch: list[Record], progress: _Progress) -> None:
        started = time.monotonic()
        drafts, unreadable = await asyncio.to_thread(_decode, batch)
        if unreadable:
            progress.put_aside = True
            self.results["unreadable"] += sum(record.events for record in unreadable)
        outcome = await self._patiently(self._backlog.store(drafts))
        if not await self._put_aside(outcome.unstored):
            progress.put_aside = True
        self._count(outcome)
        if outcome.touched is not None:
            spans = [*outcome.touched, *(progress.touched or ())]
            progress.touched = min(spans), max(spans)
        self._most_events = min(BATCH_EVENTS, self._most_events * 2)
        self._presence.back()
        self._keeper.resume()
        if self._keeper.is_busy:
            # Half of the time is for live batches.
            await self._sleep(min(MAX_PAUSE_S, time.monotonic() - started))

    async def _patiently(self, work: Awaitable[T]) -> T:
        """Wait for the one transaction under way; tell the others meanwhile that the database is slow."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._backlog.seconds))[0]:
                self._keeper.suspend(DatabaseTimeout("a batch of the spool was not committed in time"))
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()

    async def _put_aside(self, unstored: list[Unstored]) -> bool:
        """Write to the quarantine what could not be stored. False: the disk has no room for it."""
        if not unstored:
            return True
        for one in unstored:
            event(_log, logging.ERROR, EVENT_ASIDE, reason=one.reason, event_id=one.id, message=one.message)
        lines = b"".join(one.line for one in unstored)
        try:
            await asyncio.to_thread(self._spool.folder.put_aside_lines, lines)
        except (OSError, SpoolRefused) as exc:
            event(_log, logging.WARNING, SEGMENT_STAYS, error=exc)
            return False
        return True

    def _count(self, outcome: Outcome) -> None:
        self.results.update(new=outcome.new, duplicate=outcome.duplicates, erased=outcome.erased)
        self.results.update(Counter(one.reason for one in outcome.unstored))

    async def _finish(self, progress: _Progress, damage: Damage | None) -> None:
        segment = progress.segment
        if damage is not None:
            self.damaged[damage.value] += 1
            level = logging.WARNING if damage is Damage.TORN else logging.ERROR
            event(_log, level, SEGMENT_DAMAGED, path=segment.path, damage=damage.value)
        self._progress = None
        try:
            await self._spool.finish(segment, put_aside=progress.put_aside or damage is Damage.CORRUPT)
        except OSError as exc:
            event(_log, logging.ERROR, SEGMENT_STAYS, path=segment.path, error=exc)


def _decode(batch: list[Record]) -> tuple[list[Drafts], list[Record]]:
    """The drafts, and the records whose payload is none (of another version, say)."""
    drafts, unreadable = [], []
    for record in batch:
        try:
            drafts.append(Drafts.decode(record.payload))
        except (msgspec.DecodeError, msgspec.ValidationError):
            unreadable.append(record)
    return drafts, unreadable
