"""Small HTTP servers on sockets that are bound before anything else starts."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp

from sandbox.errors import BodyTooLarge, CannotListen

MAX_BODY_BYTES = 1 << 20
STOP_S = 2
"""How long a server that stops waits for answers under way."""


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; CannotListen says which port and why."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol named: asyncio switches Nagle's algorithm off (40 ms for each answer) only where it is.
        bound = socket.socket(address[0], address[1], address[2])
    except (OSError, OverflowError) as exc:
        raise CannotListen(f"cannot listen on {host}:{port}: {exc}") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address[4])
        bound.listen(512)
        bound.setblocking(False)
    except OSError as exc:
        bound.close()
        reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be had ({exc.strerror})"
        raise CannotListen(f"port {port} on {host} {reason}: choose another with --port") from exc
    return bound


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body; BodyTooLarge as soon as it passes `limit` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the body is longer than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


class _Server(uvicorn.Server):
    """uvicorn that tells when it is ready, and leaves signals to the process, which runs several servers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpService:
    """One application on one bound socket."""

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            ws="none",
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)
        self._socket = bound
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the service accepts connections."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._task

    async def stop(self) -> None:
        """Stop accepting, let answers under way end, close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()
