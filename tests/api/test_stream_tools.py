"""A client of the stream, at the ASGI level: httpx would wait for the end of an answer that has none."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE = 10.0
"""Seconds after which a test that waits for an event fails."""


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: Any


class Client:
    """What the application sent: its start, then events one by one."""

    def __init__(self, app, headers, *, reads=True):
        self._app = app
        self._headers = headers
        self._reads = reads
        self._gone = asyncio.Event()
        self._sent = asyncio.Queue()
        self.running = None
        self.status = None
        self.headers = None

    async def start(self):
        """Ask, and wait for the answer's beginning."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/v1/stream",
            "raw_path": b"/v1/stream",
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self._headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8402),
        }
        self.running = asyncio.create_task(self._app(scope, self._receive, self._send))
        message = await self._next()
        self.status = message["status"]
        self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        return self

    async def event(self):
        """The next event; heartbeats are passed over. None: the answer has ended."""
        while True:
            text = (await self._next())["body"].decode()
            if not text:
                return None
            if not text.startswith(":"):
                lines = dict(line.split(": ", 1) for line in text.strip().split("\n"))
                return Event(lines["event"], lines["id"], json.loads(lines["data"]))

    async def raw(self):
        """The next bytes, whatever they are."""
        return (await self._next())["body"]

    async def leave(self):
        """Hang up, and wait until the application has noticed."""
        self._gone.set()
        await self.ended()

    async def ended(self):
        """Wait until the application is done with this client."""
        async with asyncio.timeout(PATIENCE):
            await self.running

    async def _next(self):
        async with asyncio.timeout(PATIENCE):
            return await self._sent.get()

    async def _receive(self):
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        if not self._reads and message.get("body"):
            await asyncio.Event().wait()
        self._sent.put_nowait(message)


@asynccontextmanager
async def listening(site, key="read", last_id=None, **options):
    """A client that listens, and hangs up at the end of the block."""
    headers = {"Host": "127.0.0.1:8402"}
    if key is not None:
        headers["Authorization"] = f"Bearer {site.keys[key]}"
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    client = await Client(site.app, headers, **options).start()
    try:
        yield client
    finally:
        await client.leave()
