"""Snapshots for the exporter: read in the background while somebody scrapes, told from memory, written and packed once.

A scrape waits for the database, for `read_statement` at most, only when what is kept is older than twice
`TOLLWATCH_METRICS_INTERVAL`: nobody asked for a while, or the database is slow. Facts older than both together are not
told. A reading that takes longer goes on for whoever comes later.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any

from api.exporter_text import FactText
from store.deadlines import Deadlines
from store.errors import DatabaseError, DatabaseTimeout
from store.logs import event
from store.metrics_snapshot import Snapshot
from store.server import ServerFigures

RETRY_SECONDS = 1.0
"""How soon a database that did not answer is asked again."""
IDLE_SECONDS = 300.0
"""How long a scope that nobody scrapes is kept up to date."""
MOST_SCOPES = 8
MOST_BYTES = 32 * 1024**2
"""Scopes that are kept, and bytes of their text: beyond either, the one that was scraped longest ago is forgotten."""
PACKED_LEVEL = 1
"""Of gzip: ten megabytes become 0.6 in 25 ms; more effort halves that and takes twice as long."""
FACTS_AWAY = "exporter_facts_away"

_log = logging.getLogger(__name__)

ReadSnapshot = Callable[[], Awaitable[Snapshot]]
"""Reads the facts of one scope. Raises DatabaseError."""


@dataclass(frozen=True)
class Packed:
    """Facts as the beginning of a gzip stream, and what goes on with it."""

    beginning: bytes
    packer: Any

    def with_end(self, rest: bytes) -> bytes:
        """The whole stream: the facts and the rest."""
        packer = self.packer.copy()
        return b"".join((self.beginning, packer.compress(rest), packer.flush()))


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What the newest reading gave: facts as exposition text in pieces, lags, the server. When the database did not
    answer it, facts are those of an earlier reading, at `read_at`; none when that is too long ago.
    """

    facts: Sequence[bytes]
    lags: dict[str, float]
    is_up: bool
    seconds: float
    at: float
    read_at: float = 0.0
    settled_reads: int = 0
    server: ServerFigures | None = None
    packed: Packed | None = None


@dataclass
class _Slot:
    """One scope: how it is read and written, the newest snapshot, whether scrapes want it packed, the reading that is
    under way and since when, who keeps it up to date.
    """

    read: ReadSnapshot
    text: FactText
    asked_at: float
    taken: Taken | None = None
    is_packed: bool = False
    reading: asyncio.Task[None] | None = None
    started_at: float = 0.0
    keeper: asyncio.Task[None] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether a reading is under way."""
        return self.reading is not None and not self.reading.done()

    def cancel(self) -> list[asyncio.Task[None]]:
        """End what runs; what to wait for."""
        tasks = [task for task in (self.keeper, self.reading) if task is not None]
        for task in tasks:
            task.cancel()
        return tasks

    @property
    def bytes(self) -> int:
        """Of text, packed and not."""
        if self.taken is None:
            return 0
        packed = len(self.taken.packed.beginning) if self.taken.packed else 0
        return sum(map(len, self.taken.facts)) + packed


class Snapshots:
    """Keeps the newest snapshot of each scope (a project, or all). One reading of a scope at a time; whoever needs it
    waits for it.
    """

    def __init__(
        self,
        reader: Callable[[int | None], ReadSnapshot],
        *,
        most: int,
        deadlines: Deadlines,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interval`: seconds between readings; 0: one for each scrape."""
        self._reader = reader
        self._most = most
        self._patience = deadlines.read_statement
        self._longest = deadlines.metrics_reading
        self._interval = interval
        self._clock = clock
        self._slots: dict[int | None, _Slot] = {}

    @property
    def kept_bytes(self) -> int:
        """Text in memory, of all scopes."""
        return sum(slot.bytes for slot in self._slots.values())

    def age(self, taken: Taken) -> float | None:
        """Seconds since the facts were read; None: there are none."""
        return self._clock() - taken.read_at if taken.facts else None

    async def get(self, project_id: int | None, *, packed: bool = False) -> Taken:
        """The newest snapshot, with its facts packed too if asked for. Never raises for a database that is away."""
        slot = self._slot(project_id)
        slot.is_packed |= packed
        in_time = True
        if not self._is_fresh(slot):
            in_time = await self._read_in_time(slot)
        if self._interval and slot.keeper is None:
            # Of no request: what it does is not done for the one that came first.
            slot.keeper = asyncio.create_task(self._keep(project_id, slot), context=Context())
        self._forget_beyond()
        taken = self._current(slot.taken if in_time and slot.taken else self._lost(slot, slot.started_at))
        if packed and taken.packed is None:
            taken = replace(taken, packed=await asyncio.to_thread(_packed, taken.facts))
        return taken

    async def close(self) -> None:
        """End what runs in the background."""
        tasks = [task for slot in self._slots.values() for task in slot.cancel()]
        self._slots.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _slot(self, project_id: int | None) -> _Slot:
        """The scope's, which is then the one that was asked for last."""
        slot = self._slots.pop(project_id, None)
        if slot is None:
            slot = _Slot(self._reader(project_id), FactText(self._most), self._clock())
        slot.asked_at = self._clock()
        self._slots[project_id] = slot
        return slot

    def _is_fresh(self, slot: _Slot) -> bool:
        taken = slot.taken
        if taken is None:
            return False
        return self._clock() - (taken.read_at if taken.is_up else taken.at) < 2 * self._interval

    def _current(self, taken: Taken) -> Taken:
        """Without facts that are too old to be told."""
        if self._clock() - taken.read_at < 2 * self._interval + self._patience:
            return taken
        return replace(taken, facts=(), packed=None)

    async def _keep(self, project_id: int | None, slot: _Slot) -> None:
        """Read again and again, until nobody asks any more."""
        while self._clock() - slot.asked_at < IDLE_SECONDS:
            is_up = slot.taken is not None and slot.taken.is_up
            await asyncio.sleep(self._interval if is_up else min(self._interval, RETRY_SECONDS))
            await asyncio.wait({self._started(slot)})
        if self._slots.get(project_id) is slot:
            del self._slots[project_id]

    async def _read_in_time(self, slot: _Slot) -> bool:
        """Wait for a reading: one under way, or (at each scrape) one that began since. False: it takes too long."""
        came_at = self._clock()
        try:
            async with asyncio.timeout(self._patience):
                while not self._interval and slot.is_reading and slot.started_at < came_at:
                    await asyncio.wait({self._started(slot)})
                await asyncio.shield(self._started(slot))
        except TimeoutError:
            return False
        return True

    def _started(self, slot: _Slot) -> asyncio.Task[None]:
        """The reading that is under way, else one that begins."""
        if slot.reading is None or slot.reading.done():
            slot.started_at = self._clock()
            slot.reading = asyncio.create_task(self._take(slot))
        return slot.reading

    async def _take(self, slot: _Slot) -> None:
        started = slot.started_at
        try:
            snapshot = await self._read(slot)
        except DatabaseError as exc:
            if slot.taken is None or slot.taken.is_up:  # it is asked every second: told once
                event(_log, logging.WARNING, FACTS_AWAY, error=exc)
            slot.taken = self._lost(slot, started)
            return
        facts = await asyncio.to_thread(slot.text.write, snapshot)
        packed = await asyncio.to_thread(_packed, facts) if slot.is_packed else None
        now = self._clock()
        slot.taken = Taken(
            facts=facts,
            lags=dict(snapshot.lags),
            is_up=True,
            seconds=now - started,
            at=now,
            read_at=started,
            settled_reads=snapshot.settled_reads,
            server=snapshot.server,
            packed=packed,
        )

    async def _read(self, slot: _Slot) -> Snapshot:
        try:
            async with asyncio.timeout(self._longest):
                return await slot.read()
        except TimeoutError as exc:
            raise DatabaseTimeout from exc

    def _lost(self, slot: _Slot, started: float) -> Taken:
        """What is told when the database did not answer: the facts of before, as long as they are not too old."""
        now = self._clock()
        seconds = now - started
        if slot.taken is None:
            return Taken(facts=(), lags={}, is_up=False, seconds=seconds, at=now)
        return self._current(replace(slot.taken, lags={}, is_up=False, seconds=seconds, at=now, server=None))

    def _forget_beyond(self) -> None:
        while len(self._slots) > 1 and (len(self._slots) > MOST_SCOPES or self.kept_bytes > MOST_BYTES):
            self._slots.pop(next(iter(self._slots))).cancel()


def _packed(facts: Sequence[bytes]) -> Packed:
    """For a thread: zlib leaves the interpreter to others meanwhile."""
    packer = zlib.compressobj(PACKED_LEVEL, wbits=zlib.MAX_WBITS | 16)
    return Packed(b"".join([*map(packer.compress, facts), packer.flush(zlib.Z_SYNC_FLUSH)]), packer)
