"""Transports for httpx that pass requests on and tell a recorder what was bought.

They stand below whatever pays (the x402 SDK's transport, or the agent's own code) and see what it does not tell: a 200
without a settlement, a 500, a timeout after paying. They change nothing, read nothing ahead and hold nothing back;
bodies are measured while the agent reads them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import httpx

from tollwatch.calls import About, Sink
from tollwatch.observer import Exchange, Observer, watched
from tollwatch.recorder import Recorder


class _Watcher:
    """What both transports share. Whatever goes wrong in here is counted, and the agent's request goes on."""

    def __init__(self, recorder: Sink, about: About | None, services: Iterable[str], *, keep_query: bool) -> None:
        self._sink = recorder
        self._observer = Observer(recorder, watched(about or About(), services, keep_query=keep_query))
        if isinstance(recorder, Recorder):
            recorder.attach(self._observer)

    def _begin(self, request: httpx.Request) -> Exchange | None:
        try:
            return self._observer.begin(request)
        except Exception as exc:  # noqa: BLE001
            self._sink.fault(exc)
            return None

    def _safely(self, tell: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return tell(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001
            self._sink.fault(exc)
            return None

    def _answered(self, exchange: Exchange, response: httpx.Response) -> bool:
        """Whether the stream is to be followed. A response that was made with its content has none."""
        if not self._safely(exchange.answered, response):
            return False
        if response.is_closed:
            self._safely(exchange.chunk, response.content)
            self._safely(exchange.ended, complete=True)
            return False
        return True

    def settle(self) -> None:
        """Tell what still waits for a payment or for a reader."""
        self._safely(self._observer.look, last=True)


class TollwatchTransport(_Watcher, httpx.BaseTransport):
    """For httpx.Client. `inner` passes requests on; default: httpx's own transport."""

    def __init__(
        self,
        recorder: Sink,
        inner: httpx.BaseTransport | None = None,
        *,
        about: About | None = None,
        services: Iterable[str] = (),
        keep_query: bool = False,
    ) -> None:
        super().__init__(recorder, about, services, keep_query=keep_query)
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; errors pass through."""
        exchange = self._begin(request)
        if exchange is None:
            return self._inner.handle_request(request)
        try:
            response = self._inner.handle_request(request)
        except BaseException as exc:
            self._safely(exchange.lost, exc)
            raise
        if self._answered(exchange, response) and isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _Stream(response.stream, exchange, self._safely)
        return response

    def close(self) -> None:
        """Close the transport below."""
        self.settle()
        self._inner.close()


class AsyncTollwatchTransport(_Watcher, httpx.AsyncBaseTransport):
    """For httpx.AsyncClient. `inner` passes requests on; default: httpx's own transport."""

    def __init__(
        self,
        recorder: Sink,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        about: About | None = None,
        services: Iterable[str] = (),
        keep_query: bool = False,
    ) -> None:
        super().__init__(recorder, about, services, keep_query=keep_query)
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; errors pass through."""
        exchange = self._begin(request)
        if exchange is None:
            return await self._inner.handle_async_request(request)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as exc:
            self._safely(exchange.lost, exc)
            raise
        if self._answered(exchange, response) and isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _AsyncStream(response.stream, exchange, self._safely)
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        self.settle()
        await self._inner.aclose()


class _Measured:
    """A body that is measured while it is read."""

    def __init__(self, exchange: Exchange, safely: Callable[..., Any]) -> None:
        self._exchange = exchange
        self._safely = safely

    def __del__(self) -> None:
        self._safely(self._exchange.ended, complete=False)


class _Stream(_Measured, httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream, exchange: Exchange, safely: Callable[..., Any]) -> None:
        super().__init__(exchange, safely)
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self._safely(self._exchange.chunk, chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._safely(self._exchange.broken, exc)
            raise
        self._safely(self._exchange.ended, complete=True)

    def close(self) -> None:
        self._inner.close()
        self._safely(self._exchange.ended, complete=False)


class _AsyncStream(_Measured, httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, exchange: Exchange, safely: Callable[..., Any]) -> None:
        super().__init__(exchange, safely)
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._safely(self._exchange.chunk, chunk)
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._safely(self._exchange.broken, exc)
            raise
        self._safely(self._exchange.ended, complete=True)

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._safely(self._exchange.ended, complete=False)


def observe(client: httpx.Client | httpx.AsyncClient, recorder: Sink, about: About | None = None) -> None:
    """Put the transport below a client that is made already, such as the x402 SDK's `x402HttpxClient`.

    Raises TypeError for a client whose transports it cannot find: then pass a transport when the client is made.
    """
    held: Any = client
    if not isinstance(getattr(held, "_transport", None), httpx.BaseTransport | httpx.AsyncBaseTransport):
        raise TypeError(f"{type(client).__name__} has no transport to observe; pass one when you make the client")
    kind = AsyncTollwatchTransport if isinstance(client, httpx.AsyncClient) else TollwatchTransport

    def wrapped(transport: Any) -> Any:
        paying = getattr(transport, "_transport", None)  # the SDK's has another below
        if isinstance(paying, httpx.BaseTransport | httpx.AsyncBaseTransport):
            transport._transport = kind(recorder, paying, about=about)  # type: ignore[arg-type]  # noqa: SLF001
            return transport
        return None if transport is None else kind(recorder, transport, about=about)

    held._transport = wrapped(held._transport)  # noqa: SLF001
    held._mounts = {pattern: wrapped(mounted) for pattern, mounted in held._mounts.items()}  # noqa: SLF001
