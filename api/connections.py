"""Connections of clients: how many, and how long each may take. Wraps uvicorn's protocol, whichever it is.

A connection that does not get on is cut: one that asks nothing, trickles its headers or its body, or does not read its
answer. At `max_connections` the one that has waited longest for a request, or for a body from nobody we know, makes
room for a new one, so that a crowd of idle connections shuts nobody out; where all are at work the new one is answered
503. Seconds are fine enough for all of it: one sweep looks at every connection, which is cheaper than a timer each.
"""

from __future__ import annotations

import asyncio
import json
import time
from asyncio import Protocol, Transport
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from api.limits import ticket_of
from api.metrics import LimitMetrics
from store.errors import StartRefused
from store.settings import Settings

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None

SWEEP_S = 1.0
BODY_MARGIN_S = 10.0
"""What a known key has beyond the time for a body: it may wait for room first, and ingest answers 408 itself."""
MAX_HEADERS = 64 * 1024
"""Bytes of one request's line and headers."""
OTHER_FILES = 200
"""File descriptors for everything but clients: the database, logs, listeners, libraries."""

_FULL = json.dumps(
    {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "there are as many connections as may be, and all are at work; try again",
        "code": "too_many_connections",
    }
).encode()
_FULL_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 2\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n" % len(_FULL)
) + _FULL


@dataclass(slots=True, eq=False)
class Connection:
    """One client's, and what it does since when. `heard`: bytes since the last answer, of no request that began."""

    protocol: Any
    transport: Transport
    since: float
    phase: str = "idle"
    cycle: object = None
    heard: int = 0
    unread_since: float | None = None

    def look(self) -> str:
        """idle, headers, leftover (of a body that was answered unread), body, or answer."""
        cycle = self.protocol.cycle
        if cycle is not None and not cycle.response_complete:
            return "body" if cycle.more_body else "answer"
        if cycle is not None and cycle.more_body:
            return "leftover"
        return "headers" if self.heard else "idle"

    def unread(self) -> int:
        """Bytes that the client has yet to read, as far as they are in our memory."""
        return self.transport.get_write_buffer_size()


class Connections:
    """All of them. `protocol` makes the class for uvicorn, `watch` is to run beside it."""

    def __init__(self, settings: Settings, metrics: LimitMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._all: set[Connection] = set()
        # In the order in which they began to wait; those at work for a known key are not among them.
        self._waiting: dict[Connection, None] = {}
        self._slow_readers: dict[Connection, None] = {}
        body = settings.client_body.total_seconds()
        self._most = {
            "idle": settings.client_idle.total_seconds(),
            "headers": settings.client_headers.total_seconds(),
            "leftover": body,
            "body": body,
        }
        self._read_s = settings.client_read.total_seconds()
        metrics.watch_connections(
            count=lambda: len(self._all), unread=lambda: sum(each.unread() for each in tuple(self._all))
        )

    def opened(self, protocol: Any, transport: Transport) -> Connection:
        """A connection was made. It may be answered and closed at once."""
        made = Connection(protocol, transport, self._clock())
        if len(self._all) >= self._settings.max_connections and not self._make_room():
            self._metrics.cut("full")
            transport.write(_FULL_ANSWER)
            transport.close()
            return made
        self._all.add(made)
        self._waiting[made] = None
        return made

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)
        self._slow_readers.pop(connection, None)

    def heard(self, connection: Connection, octets: int, phase: str) -> None:
        """Bytes came in, and the protocol has read them. `phase`: what the connection did until then."""
        cycle = connection.protocol.cycle
        if cycle is None or cycle.response_complete:
            connection.heard += octets
            is_leftover = phase == "leftover"
            if connection.heard > MAX_HEADERS + (self._settings.max_body if is_leftover else 0):
                self._cut(connection, "body" if is_leftover else "headers")
            elif is_leftover and connection.look() != "leftover":
                # It has ended. What came behind it is the beginning of a request, and no more than one read.
                connection.heard = 0
        elif not cycle.more_body:
            self._waiting.pop(connection, None)

    def answered(self, connection: Connection) -> None:
        """An answer is complete; the connection waits for the next request."""
        connection.heard = 0
        if connection in self._all:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def held_up(self, connection: Connection) -> None:
        """Its client does not read as fast as we write. Who has not read for longest makes room for what is unread."""
        self._slow_readers[connection] = None
        while sum(each.unread() for each in self._slow_readers) > self._settings.unread_memory:
            self._cut(next(iter(self._slow_readers)), "unread")

    def read_on(self, connection: Connection) -> None:
        """Its client reads again."""
        self._slow_readers.pop(connection, None)

    async def watch(self) -> None:
        """Sweep until cancelled."""
        shortest = min(self._read_s, *self._most.values())
        while True:
            await asyncio.sleep(min(SWEEP_S, shortest / 4))
            self.sweep()

    def sweep(self) -> None:
        """Cut what does not get on."""
        now = self._clock()
        for connection in tuple(self._all):
            if (reason := self._stuck(connection, now)) is not None:
                self._cut(connection, reason)

    def _stuck(self, connection: Connection, now: float) -> str | None:
        if not connection.unread():
            connection.unread_since = None
        elif connection.unread_since is None:
            connection.unread_since = now
        elif now - connection.unread_since > self._read_s:
            return "unread"
        phase, cycle = connection.look(), connection.protocol.cycle
        if (phase, cycle) != (connection.phase, connection.cycle):
            connection.phase, connection.cycle, connection.since = phase, cycle, now
        more = BODY_MARGIN_S if phase == "body" and ticket_of(cycle.scope).entered else 0
        if now - connection.since > self._most.get(phase, now) + more:
            return "body" if phase == "leftover" else phase
        return None

    def _make_room(self) -> bool:
        while self._waiting:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            if oldest.look() == "answer" or (
                oldest.look() == "body" and ticket_of(oldest.protocol.cycle.scope).entered
            ):
                continue  # at work for a key; it waits again once it is answered
            self._cut(oldest, "room")
            return True
        return False

    def _cut(self, connection: Connection, reason: str) -> None:
        self._metrics.cut(reason)
        self.closed(connection)
        connection.transport.abort()

    def protocol(self, base: type[Any]) -> type[Protocol]:
        """A protocol of uvicorn's that tells us what its connection does."""
        connections = self

        class Watched(base):  # type: ignore[misc]
            connection: Connection

            def connection_made(self, transport: Transport) -> None:
                super().connection_made(transport)
                self.connection = connections.opened(self, transport)

            def connection_lost(self, exc: Exception | None) -> None:
                connections.closed(self.connection)
                super().connection_lost(exc)

            def data_received(self, data: bytes) -> None:
                phase = self.connection.look()
                super().data_received(data)
                connections.heard(self.connection, len(data), phase)

            def on_response_complete(self) -> None:
                connections.answered(self.connection)
                super().on_response_complete()

            def pause_writing(self) -> None:
                super().pause_writing()
                connections.held_up(self.connection)

            def resume_writing(self) -> None:
                super().resume_writing()
                connections.read_on(self.connection)

        return Watched


def allow_files(settings: Settings) -> None:
    """Make sure that this process may open a descriptor for every connection. Raises StartRefused."""
    if resource is None:  # not on Windows
        return
    wanted = settings.max_connections + settings.pool_size + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise StartRefused(
            f"this process may open {hard} files and needs {wanted};"
            " raise `ulimit -n`, or lower TOLLWATCH_MAX_CONNECTIONS"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
