"""The collector's own HTTP server: /metrics for Prometheus, /healthz for supervisors. It lives in the collector's loop,
so a loop that hangs answers nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from store.errors import StartRefused

STOP_SECONDS = 2
"""How long answers under way may take when the server stops."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Pages:
    """The ASGI application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """One request; nothing but GET and HEAD of two paths."""
        status, kind, body = self._answer(scope["method"], scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"GET or HEAD\n"
        if path == "/metrics":
            return 200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
        if path == "/healthz":
            return 200, "application/json", b'{"status": "ok"}'
        return 404, "text/plain", b"/metrics or /healthz\n"


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(registry: CollectorRegistry, host: str, port: int) -> AsyncIterator[int]:
    """Serve inside the block; gives the port (`port` 0: any free one). Raises StartRefused: the port cannot be had."""
    bound = _listen(host, port)
    config = uvicorn.Config(
        Pages(registry),
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        bound.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
    except OSError as exc:
        raise StartRefused(f"cannot listen on TOLLWATCH_COLLECTOR_HOST {host}: {exc.strerror}") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(64)
        bound.setblocking(False)
    except OSError as exc:
        bound.close()
        raise StartRefused(
            f"cannot listen on {host}:{port} for the collector's metrics ({exc.strerror}); set TOLLWATCH_COLLECTOR_PORT"
        ) from exc
    return bound
