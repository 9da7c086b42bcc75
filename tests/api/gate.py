"""A gate in front of a database server: open, shut (connections are cut and refused) or frozen (nothing gets through)."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit, urlunsplit


class Gate:
    """Bytes through a loopback port, as long as it is open."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._parts = parts
        self._server = None
        self._writers = set()
        self._tasks = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.port = None

    @property
    def url(self):
        """The database's URL, through the gate."""
        user = self._parts.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{self.port}" if user else f"127.0.0.1:{self.port}"
        return urlunsplit(self._parts._replace(netloc=netloc))

    async def open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port or 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.thaw()

    def retarget(self, url):
        """The server is somewhere else now."""
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)

    def cut(self):
        """End every connection at once; new ones are welcome."""
        for writer in self._writers:
            writer.transport.abort()

    async def shut(self):
        """Cut what is connected, refuse what would."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None

    def freeze(self):
        """Like a server that is stopped: connections are accepted, and nothing comes back."""
        self._thawed.clear()

    def thaw(self):
        self._thawed.set()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        other = None
        try:
            await self._thawed.wait()
            back, other = await asyncio.open_connection(*self._target)
            self._writers.add(other)
            await asyncio.gather(self._pump(reader, other), self._pump(back, writer))
        except (OSError, asyncio.CancelledError):
            pass  # a cut, by either side or by the gate: the other side sees its connection close
        finally:
            for one in (writer, other):
                self._writers.discard(one)
                if one is not None:
                    one.close()
                    with contextlib.suppress(OSError):
                        await one.wait_closed()
            self._tasks.discard(task)

    async def _pump(self, reader, writer):
        while data := await reader.read(65536):
            await self._thawed.wait()
            writer.write(data)
            await writer.drain()
        writer.close()
