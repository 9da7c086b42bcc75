"""HTTP/1.1 as uvicorn reads it with httptools, in a tenth of the time of h11, with the bounds that httptools lacks."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.connections import MAX_HEADERS

MAX_PIPELINED = 256
"""Requests on one connection behind the one that is being answered; one read of the smallest would be 14,000."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol; what its parser keeps of a client has a bound.

    That is a request's line and headers, its trailers, and whatever comes while the one before is answered.
    """

    _kept = 0
    _answering: Any = None

    def data_received(self, data: bytes) -> None:
        """Parse. Beyond MAX_HEADERS without getting on, by at most one read of the socket, the connection ends."""
        if self.transport.is_closing():
            return
        self._kept += len(data)
        super().data_received(data)
        if self._kept > MAX_HEADERS and not self.transport.is_closing():
            self.send_400_response("The request's line and headers are too large.")

    def send_400_response(self, msg: str) -> None:
        """Say so, and close; where an answer is under way, only the latter: it would be taken for that answer."""
        if self._is_answering():
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def on_headers_complete(self) -> None:
        """The headers are the request's own now. ValueError, which ends the connection: too many requests wait."""
        if len(self.pipeline) == MAX_PIPELINED:
            raise ValueError("too many requests wait on one connection")
        self._kept = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which api.body bounds."""
        self._kept = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request was read to its end, also where it was answered before that."""
        self._kept = 0
        super().on_message_complete()
        self.cycle.more_body = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered: uvicorn tells only the one that was read last."""
        if self._is_answering():
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)
