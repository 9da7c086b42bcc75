"""Snapshots for the exporter: one query at a time and per second, however many scrape, and rendered once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from prometheus_client import generate_latest

from api.exporter_facts import FactCollector
from api.exporter_floors import Floors
from store.errors import DatabaseError, DatabaseTimeout
from store.logs import event
from store.metrics_snapshot import Snapshot
from store.server import ServerFigures

FRESH_SECONDS = 1.0
"""How long a snapshot, or a database that did not answer, is told again without asking."""
MOST_SCOPES = 8
"""Scopes whose last totals are remembered: the one that was read longest ago is forgotten."""
FACTS_AWAY = "exporter_facts_away"

_log = logging.getLogger(__name__)

ReadSnapshot = Callable[[int | None], Awaitable[Snapshot]]
"""Reads the facts of one project, or (None) of all. Raises DatabaseError."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one reading gave: facts as exposition text, empty when the database did not answer, lags, the server."""

    facts: bytes
    lags: dict[str, float]
    is_up: bool
    seconds: float
    at: float
    server: ServerFigures | None = None


@dataclass
class _Slot:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    taken: Taken | None = None


class Snapshots:
    """Keeps the newest snapshot of each scope (a project, or all). Single-flight: who comes meanwhile waits for it."""

    def __init__(self, read: ReadSnapshot, *, most: int, deadline: float, fresh: float = FRESH_SECONDS) -> None:
        self._read = read
        self._most = most
        self._deadline = deadline
        self._fresh = fresh
        self._slots: dict[int | None, _Slot] = {}
        self._floors: dict[int | None, Floors] = {}

    async def get(self, project_id: int | None) -> Taken:
        """The newest snapshot, at most `fresh` seconds old. Never raises for a database that is away."""
        slot = self._slots.setdefault(project_id, _Slot())
        async with slot.lock:
            if slot.taken is None or time.monotonic() - slot.taken.at >= self._fresh:
                slot.taken = await self._take(project_id)
            taken = slot.taken
        self._forget_old()
        return taken

    async def _take(self, project_id: int | None) -> Taken:
        started = time.monotonic()
        try:
            snapshot = await self._read_in_time(project_id)
        except DatabaseError as exc:
            event(_log, logging.WARNING, FACTS_AWAY, error=exc)
            return self._taken(started, b"", {}, is_up=False)
        floors = self._floors_of(project_id)
        facts = await asyncio.to_thread(generate_latest, FactCollector(snapshot, self._most, floors))
        return self._taken(started, facts, dict(snapshot.lags), is_up=True, server=snapshot.server)

    async def _read_in_time(self, project_id: int | None) -> Snapshot:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._read(project_id)
        except TimeoutError as exc:
            raise DatabaseTimeout from exc

    @staticmethod
    def _taken(
        started: float, facts: bytes, lags: dict[str, float], *, is_up: bool, server: ServerFigures | None = None
    ) -> Taken:
        now = time.monotonic()
        return Taken(facts=facts, lags=lags, is_up=is_up, seconds=now - started, at=now, server=server)

    def _floors_of(self, project_id: int | None) -> Floors:
        """The scope's, which are then the newest of those that are remembered."""
        self._floors[project_id] = found = self._floors.pop(project_id, None) or Floors()
        for oldest in list(self._floors)[:-MOST_SCOPES]:
            del self._floors[oldest]
        return found

    def _forget_old(self) -> None:
        """A snapshot can be megabytes: keep none that nobody may be told again."""
        oldest = time.monotonic() - self._fresh
        for project_id, slot in list(self._slots.items()):
            if not slot.lock.locked() and slot.taken is not None and slot.taken.at < oldest:
                del self._slots[project_id]
