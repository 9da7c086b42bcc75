"""Feeds: one per project with listeners, which looks once for all of them.

A feed keeps its last messages for a while after the last listener has left, so that one who was cut off and comes back
with `Last-Event-ID` misses nothing; anyone else is told the present state first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from api.problems import RETRY_AFTER_S, Problem
from api.stream_facts import WINDOW, Reading
from store.errors import DatabaseError
from store.logs import event

KEPT = 256
"""Messages that a feed keeps for those who come back."""
WAITING = 64
"""Messages that may wait for a listener; one who is further behind is dropped."""
AWAY = "stream_facts_away"
DROPPED = "stream_listener_dropped"

_log = logging.getLogger(__name__)

Read = Callable[[int, Reading], Awaitable[Reading]]
"""Looks at one project, given the reading before. Raises DatabaseError."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many may listen to one process, and seconds."""

    listeners: int = 200
    of_project: int = 20
    poll: float = 1.0
    """From one look of a feed to the next."""
    heartbeat: float = 15.0
    """A comment at least so often, so that a connection that broke is noticed."""
    send: float = 10.0
    """How long a client may leave its connection full."""


class Message(NamedTuple):
    """One server-sent event, encoded."""

    number: int
    encoded: bytes


class Listener:
    """Who listens: what is still to be sent; None ends it."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, encoded: bytes) -> bool:
        """Whether there was room."""
        if self._waiting.qsize() >= WAITING:
            return False
        self._waiting.put_nowait(encoded)
        return True

    def end(self) -> None:
        """Tell nothing more, not even what waits."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def next(self, within: float) -> bytes | None:
        """What is to be sent next; None: nothing any more. TimeoutError: nothing yet."""
        async with asyncio.timeout(within):
            return await self._waiting.get()


class Feed:
    """One project's messages, and who listens to them."""

    def __init__(self, project_id: int, read: Read, poll: float) -> None:
        self.listeners: set[Listener] = set()
        self.left_at = time.monotonic()
        self._project_id = project_id
        self._read = read
        self._poll = poll
        self._name = secrets.token_hex(4)
        self._number = 0
        self._kept: deque[Message] = deque(maxlen=KEPT)
        self._reading: Reading | None = None
        self._looking = asyncio.Lock()
        self._beginning = asyncio.Lock()
        self._is_away = False
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Look, and tell what is new. Raises DatabaseError."""
        async with self._looking:
            before = self._reading or Reading()
            found = await self._read(self._project_id, before)
            first, self._reading = self._reading is None, found
        for name, data in {} if first else found.news(before).items():
            self._tell(name, data)

    async def ready(self) -> None:
        """Have a reading that is no older than a poll, and go on from there. Raises DatabaseError."""
        self.left_at = time.monotonic()
        # One at a time: a crowd that comes back at once makes one look.
        async with self._beginning:
            if self._stop is None or self._stop.is_set():
                await self.look()
                self._stop = asyncio.Event()
                self._task = asyncio.create_task(self._run(self._stop))

    def join(self, listener: Listener, last_id: str | None) -> None:
        """Tell a listener what it missed, or the present state, and from now on what is new."""
        assert self._reading is not None
        missed = self._since(last_id)
        if missed is None:
            listener.put(self._encode("hello", self._reading.present()).encoded)
        for message in missed or ():
            listener.put(message.encoded)
        self.listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Forget a listener; with the last one the feed rests."""
        self.listeners.discard(listener)
        if not self.listeners and self._stop is not None:
            self.left_at = time.monotonic()
            self._stop.set()

    async def close(self) -> None:
        """End every listener, and wait for a look that is under way: it has deadlines."""
        for listener in list(self.listeners):
            listener.end()
            self.leave(listener)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, stop: asyncio.Event) -> None:
        try:
            while not await _is_set(stop, self._poll) and self.listeners:
                await self._look_again()
        except BaseException:
            for listener in self.listeners:
                listener.end()
            raise
        finally:
            stop.set()

    async def _look_again(self) -> None:
        try:
            await self.look()
            self._is_away = False
        except DatabaseError as exc:
            if not self._is_away:
                event(_log, logging.WARNING, AWAY, project_id=self._project_id, error=exc)
            self._is_away = True

    def _tell(self, name: str, data: object) -> None:
        self._number += 1
        message = self._encode(name, data)
        self._kept.append(message)
        for listener in list(self.listeners):
            if not listener.put(message.encoded):
                event(_log, logging.WARNING, DROPPED, project_id=self._project_id)
                listener.end()
                self.leave(listener)

    def _encode(self, name: str, data: object) -> Message:
        lines = (f"event: {name}\nid: {self._name}-{self._number}\ndata: ".encode(), msgspec.json.encode(data), b"\n\n")
        return Message(self._number, b"".join(lines))

    def _since(self, last_id: str | None) -> list[Message] | None:
        """The messages after one; None: they are not (all) kept, or too many."""
        name, _, number = (last_id or "").partition("-")
        if name != self._name or not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        missed = [message for message in self._kept if message.number > int(number)]
        return missed if self._number - int(number) == len(missed) < WAITING else None


async def _is_set(stop: asyncio.Event, within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            return await stop.wait()
    return False


class Feeds:
    """The feeds of one process."""

    def __init__(self, read: Read, limits: Limits) -> None:
        self.limits = limits
        self._read = read
        self._feeds: dict[int, Feed] = {}
        self._closed = False

    async def join(self, project_id: int, last_id: str | None = None) -> Listener:
        """Begin to listen. Raises Problem 503: too many do, or the process stops; DatabaseError."""
        self._forget_idle()
        if project_id not in self._feeds:
            self._feeds[project_id] = Feed(project_id, self._read, self.limits.poll)
        feed = self._feeds[project_id]
        self._check_room(feed)
        await feed.ready()
        self._check_room(feed)
        listener = Listener()
        feed.join(listener, last_id)
        return listener

    def leave(self, project_id: int, listener: Listener) -> None:
        """End to listen."""
        if project_id in self._feeds:
            self._feeds[project_id].leave(listener)

    async def close(self) -> None:
        """End all listeners and feeds; nobody joins any more."""
        self._closed = True
        await asyncio.gather(*(feed.close() for feed in self._feeds.values()))

    def _check_room(self, feed: Feed) -> None:
        everyone = sum(len(other.listeners) for other in self._feeds.values())
        if self._closed or everyone >= self.limits.listeners or len(feed.listeners) >= self.limits.of_project:
            why = "this process stops" if self._closed else "too many listen already"
            raise Problem(503, "too_many_listeners", f"{why}; try again later", {"Retry-After": str(RETRY_AFTER_S)})

    def _forget_idle(self) -> None:
        """Who comes back later than the facts of one reading reach is told the present state anyway."""
        oldest = time.monotonic() - WINDOW.total_seconds() / 2
        for project_id, feed in list(self._feeds.items()):
            if not feed.listeners and feed.left_at < oldest:
                del self._feeds[project_id]
