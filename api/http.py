"""HTTP/1.1 as uvicorn reads it with httptools, which is several times as fast as h11, with the bounds that h11 has.

Bytes that get a request no further, its line and headers, trailers, or those of the next one on the connection, are
kept by the parser: beyond MAX_HEADERS the answer is 400 and the end.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.connections import MAX_HEADERS


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, with a bound on what the parser keeps."""

    _kept = 0

    def data_received(self, data: bytes) -> None:
        """Parse. Above the bound by at most one read of the socket."""
        if self.transport.is_closing():
            return
        self._kept += len(data)
        super().data_received(data)
        if self._kept > MAX_HEADERS and not self.transport.is_closing():
            self.send_400_response("The request's line and headers are too large.")

    def on_headers_complete(self) -> None:
        """The headers are the request's own now."""
        self._kept = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which api.body bounds."""
        self._kept = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request was read to its end, also where it was answered before."""
        self._kept = 0
        super().on_message_complete()
        self.cycle.more_body = False
