"""The bounds of the protocol, on real sockets, around an application that answers at once, or only when its client is gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
import uvicorn

from api.connections import MAX_HEADERS
from api.http import MAX_PIPELINED, BoundedProtocol

PATIENCE = 60
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK"


class Application:
    """Answers `/`; `/wait` begins an answer, reads on until its client is gone, and says so."""

    def __init__(self) -> None:
        self.answered = 0
        self.gone = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/wait":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving():
    application = Application()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application, http=BoundedProtocol, lifespan="off", log_config=None))
        running = asyncio.create_task(server._serve(sockets=[listener]))
        try:
            yield application, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await asyncio.wait_for(running, PATIENCE)


async def exchange(port, sent):
    """All that comes until the server closes; a reset ends it too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came = b""
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        while chunk := await asyncio.wait_for(reader.read(65536), PATIENCE):
            came += chunk
    writer.close()
    return came


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000]
)
async def test_a_request_line_and_headers_have_a_bound(start):
    async with serving() as (application, port):
        came = await exchange(port, start + b"x" * (2 * MAX_HEADERS + 2**20))
        assert came.startswith(b"HTTP/1.1 400") or came == b""
        assert application.answered == 0


async def test_headers_below_the_bound_are_read():
    async with serving() as (_, port):
        large = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"x" * (MAX_HEADERS - 1000) + b"\r\n\r\n"
        assert (await exchange(port, large)).startswith(ANSWER)


@pytest.mark.parametrize("behind", [b"GET / HTTP/1.1\r\nX: " + b"x" * 2**21, GET * 10_000])
async def test_what_comes_behind_a_request_that_is_being_answered_has_a_bound(behind):
    async with serving() as (application, port):
        came = await exchange(port, WAIT + behind)
        assert came.count(b"HTTP/1.1") <= 1  # nothing that could be taken for its answer
        await asyncio.wait_for(application.gone.wait(), PATIENCE)
        assert application.answered == 1


async def test_who_is_gone_is_noticed_whatever_was_asked_for_behind():
    async with serving() as (application, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WAIT + GET)
        await asyncio.wait_for(reader.readuntil(b"begun"), PATIENCE)
        writer.close()
        await asyncio.wait_for(application.gone.wait(), PATIENCE)


async def test_requests_behind_each_other_are_answered_in_order():
    async with serving() as (application, port):
        many = GET * MAX_PIPELINED + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await exchange(port, many)).count(ANSWER) == MAX_PIPELINED + 1 == application.answered


async def test_a_body_that_was_answered_unread_is_over_at_its_end():
    async with serving() as (_, port):
        body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
        close = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await exchange(port, body * 3 + close)).count(ANSWER) == 4
