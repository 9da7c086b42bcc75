"""The server process: one socket, uvicorn around the application, and a stop that lets the work in hand end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Iterator

import prometheus_client
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.connections import Connections, allow_files
from api.http import BoundedProtocol
from api.stream import close as close_streams
from store.deadlines import Deadlines
from store.errors import StartRefused
from store.logs import event
from store.settings import Settings

BACKLOG = 512
GC_THRESHOLDS = (50_000, 20, 20)
"""New objects before the collector looks at them, and its rounds before it looks at older ones: a batch of 1,000 events
is 10,000 objects without cycles, and Python's own 700 spends an eighth of ingest on looking at them."""

LISTENING = "api_listening"
STOPPED = "api_stopped"

_log = logging.getLogger(__name__)


async def run(settings: Settings, deadlines: Deadlines) -> None:
    """Serve until SIGTERM or SIGINT, then end what is in hand, within deadlines.shutdown.

    Raises StartRefused (port, schema, edition, sandbox), SettingsError and DatabaseError.
    """
    # The instant at which a counter was born is a second series that nobody reads.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    allow_files(settings)
    app = create_app(settings, deadlines)
    with _bound(settings.host, settings.port) as listener:
        # Here and not in uvicorn, which would log why it cannot start and return.
        async with app.router.lifespan_context(app):
            connections = Connections(settings, app.state.tollwatch.limit_metrics)
            watching = asyncio.create_task(connections.watch())
            _spare_collector()
            event(_log, logging.INFO, LISTENING, host=settings.host, port=listener.getsockname()[1])
            try:
                await _Server(_config(app, settings, deadlines, connections), app).serve(sockets=[listener])
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        event(_log, logging.INFO, STOPPED)


def _config(app: object, settings: Settings, deadlines: Deadlines, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        http=connections.protocol(BoundedProtocol),
        ws="none",
        timeout_keep_alive=max(1, round(settings.client_idle.total_seconds())),
        timeout_graceful_shutdown=max(1, round(deadlines.shutdown)),
        backlog=BACKLOG,
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


def _spare_collector() -> None:
    """What is there at the start stays: never look at it again, and less often at what comes and goes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class _Server(uvicorn.Server):
    """Uvicorn, except that a signal which stopped it is done with, and that streams end before it waits for them."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, end the streams, wait for the work in hand."""
        await close_streams(self._app)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT while serving."""
        loop = asyncio.get_running_loop()
        installed = []
        for signum in (signal.SIGTERM, signal.SIGINT):
            # Not in a thread that is not the main one, and not on Windows, where Ctrl-C raises KeyboardInterrupt.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(signum, self.handle_exit, signum, None)
                installed.append(signum)
        try:
            yield
        finally:
            for signum in installed:
                loop.remove_signal_handler(signum)


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StartRefused: the port is taken, or the address is not ours."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise StartRefused(
                f"port {port} is in use; stop what uses it, or set TOLLWATCH_PORT to another one"
            ) from exc
        raise StartRefused(
            f"cannot listen on {host}:{port} ({exc.strerror or exc}); check TOLLWATCH_HOST and TOLLWATCH_PORT"
        ) from exc
