"""Snapshots for the exporter: read in the background while somebody scrapes, told from memory, written and packed once.

A scrape never waits for the database unless what is kept is older than twice `TOLLWATCH_METRICS_INTERVAL`: nobody asked
for a while, or the database is slow. Facts that are older than that are not told at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api.exporter_text import FactText
from store.errors import DatabaseError, DatabaseTimeout
from store.logs import event
from store.metrics_snapshot import Snapshot
from store.server import ServerFigures

RETRY_SECONDS = 1.0
"""How soon a database that did not answer is asked again."""
IDLE_SECONDS = 300.0
"""How long a scope that nobody scrapes is kept up to date."""
MOST_SCOPES = 8
MOST_BYTES = 64 * 1024**2
"""Scopes that are kept, and bytes of their text: beyond either, the one that was scraped longest ago is forgotten."""
PACKED_LEVEL = 1
"""Of gzip: ten megabytes become 0.6 in 25 ms; more effort halves that and takes twice as long."""
FACTS_AWAY, READ_FAILED = "exporter_facts_away", "exporter_read_failed"

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
    server: ServerFigures | None = None
    packed: Packed | None = None


@dataclass
class _Slot:
    """One scope: how it is read and written, the newest snapshot, whether scrapes want it packed, who keeps it."""

    read: ReadSnapshot
    text: FactText
    asked_at: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    taken: Taken | None = None
    is_packed: bool = False
    keeper: asyncio.Task[None] | None = None

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
        deadline: float,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interval`: seconds between readings; 0: one for each scrape."""
        self._reader = reader
        self._most = most
        self._deadline = deadline
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
        if not self._is_fresh(slot):
            async with slot.lock:
                if not self._is_fresh(slot):
                    await self._take(slot)
        assert slot.taken is not None
        if packed and slot.taken.packed is None:
            async with slot.lock:
                await _pack(slot)
        if self._interval and slot.keeper is None:
            slot.keeper = asyncio.create_task(self._keep(project_id, slot))
        self._forget_beyond()
        return self._current(slot.taken)

    async def close(self) -> None:
        """End what runs in the background."""
        keepers = [slot.keeper for slot in self._slots.values() if slot.keeper is not None]
        self._slots.clear()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _slot(self, project_id: int | None) -> _Slot:
        """The scope's, which is then the one that was asked for last."""
        slot = self._slots.pop(project_id, None)
        if slot is None:
            slot = _Slot(self._reader(project_id), FactText(self._most), self._clock())
        slot.asked_at = self._clock()
        self._slots[project_id] = slot
        return slot

    def _is_fresh(self, slot: _Slot) -> bool:
        return slot.taken is not None and self._clock() - slot.taken.at < 2 * self._interval

    def _current(self, taken: Taken) -> Taken:
        """Without facts that are too old to be told."""
        if taken.is_up or not taken.facts or self._clock() - taken.read_at < 2 * self._interval:
            return taken
        return replace(taken, facts=(), packed=None)

    async def _keep(self, project_id: int | None, slot: _Slot) -> None:
        """Read again and again, until nobody asks any more."""
        while self._slots.get(project_id) is slot:
            assert slot.taken is not None
            await asyncio.sleep(self._interval if slot.taken.is_up else min(self._interval, RETRY_SECONDS))
            if self._clock() - slot.asked_at >= IDLE_SECONDS:
                del self._slots[project_id]
                return
            async with slot.lock:
                try:
                    await self._take(slot)
                except Exception as exc:  # noqa: BLE001 (a scrape raises it again, once what is kept is too old)
                    event(_log, logging.ERROR, READ_FAILED, error=exc)

    async def _take(self, slot: _Slot) -> None:
        started = self._clock()
        try:
            snapshot = await self._read_in_time(slot)
        except DatabaseError as exc:
            event(_log, logging.WARNING, FACTS_AWAY, error=exc)
            now = self._clock()
            lost = Taken(facts=(), lags={}, is_up=False, seconds=now - started, at=now)
            last = slot.taken or lost
            slot.taken = self._current(replace(lost, facts=last.facts, read_at=last.read_at, packed=last.packed))
            return
        facts = await asyncio.to_thread(slot.text.write, snapshot)
        now = self._clock()
        slot.taken = Taken(
            facts=facts,
            lags=dict(snapshot.lags),
            is_up=True,
            seconds=now - started,
            at=now,
            read_at=started,
            server=snapshot.server,
        )
        if slot.is_packed:
            await _pack(slot)

    async def _read_in_time(self, slot: _Slot) -> Snapshot:
        try:
            async with asyncio.timeout(self._deadline):
                return await slot.read()
        except TimeoutError as exc:
            raise DatabaseTimeout from exc

    def _forget_beyond(self) -> None:
        while len(self._slots) > 1 and (len(self._slots) > MOST_SCOPES or self.kept_bytes > MOST_BYTES):
            forgotten = self._slots.pop(next(iter(self._slots)))
            if forgotten.keeper is not None:
                forgotten.keeper.cancel()


async def _pack(slot: _Slot) -> None:
    """In a thread: zlib lets others run meanwhile."""
    taken = slot.taken
    assert taken is not None
    if taken.packed is None:
        slot.taken = replace(taken, packed=await asyncio.to_thread(_packed, taken.facts))


def _packed(facts: Sequence[bytes]) -> Packed:
    packer = zlib.compressobj(PACKED_LEVEL, wbits=zlib.MAX_WBITS | 16)
    return Packed(b"".join([*map(packer.compress, facts), packer.flush(zlib.Z_SYNC_FLUSH)]), packer)
