from __future__ import annotations

import asyncio
import gzip
import traceback
from datetime import UTC, datetime

import pytest

from collector.endpoints import EndpointPool
from collector.rpc_errors import AccessRefused, EndpointUnreachable, HttpFault, MalformedAnswer, RateLimited
from collector.transport import MAX_ANSWER_BYTES, Transport, retry_after
from tests.collector.node import Node, Reply

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
async def transport():
    transport = Transport(now=lambda: NOW)
    yield transport
    await transport.close()


def endpoint(url):
    return EndpointPool([url]).endpoints[0]


async def post(transport, reply, rest="/"):
    async with Node(lambda _: reply) as node:
        return await transport.post(endpoint(node.url(rest)), b'{"method": "x"}')


async def test_a_body(transport):
    assert await post(transport, Reply(b"abc")) == b"abc"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, RateLimited),
        (401, AccessRefused),
        (403, AccessRefused),
        (404, HttpFault),
        (500, HttpFault),
        (503, HttpFault),
    ],
)
async def test_a_status_is_a_fault(transport, status, kind):
    with pytest.raises(kind, match=f"HTTP {status}") as caught:
        await post(transport, Reply(b"<html>", status, {"retry-after": "3"}))
    assert caught.value.retry_after == 3.0


async def test_a_redirect_is_not_followed(transport):
    async with Node(lambda _: Reply(b"abc")) as other:
        with pytest.raises(HttpFault, match="HTTP 307"):
            await post(transport, Reply(b"", 307, {"location": other.url("/?api-key=x")}))
        assert other.calls == []


async def test_answers_are_bounded(transport):
    with pytest.raises(MalformedAnswer, match="more than"):
        await post(transport, Reply(b"x" * (MAX_ANSWER_BYTES + 1)))


async def test_compressed_answers_are_not_unpacked(transport):
    with pytest.raises(MalformedAnswer, match="compressed"):
        await post(transport, Reply(gzip.compress(b"abc"), headers={"content-encoding": "gzip"}))


async def test_proxies_of_the_environment_are_ignored(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    transport = Transport()
    assert await post(transport, Reply(b"abc")) == b"abc"
    await transport.close()


async def test_userinfo_is_sent_and_never_told(transport):
    async with Node(lambda _: Reply(b"", 500)) as node:
        url = node.url("/path-secret?api-key=query-secret").replace("127", "user:hunter2@127", 1)
        with pytest.raises(HttpFault) as caught:
            await transport.post(endpoint(url), b'{"method": "x"}')
    assert str(caught.value) == f"{node.label}: HTTP 500"


async def test_a_broken_connection_tells_no_url(transport):
    async with Node(lambda _: Reply()) as node:
        gone = endpoint(node.url("/hidden" + "path?api-key=hidden" + "key"))
    with pytest.raises(EndpointUnreachable) as caught:
        await transport.post(gone, b"{}")
    assert str(caught.value) == f"{node.label}: ConnectError"
    told = "".join(traceback.format_exception(caught.value))
    assert "hiddenpath" not in told
    assert "hiddenkey" not in told


async def test_a_short_body_is_a_broken_connection(transport):
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(EndpointUnreachable):
        await transport.post(endpoint(f"http://127.0.0.1:{port}"), b"{}")
    server.close()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 2.5 ", 2.5),
        ("0", 0.0),
        ("Fri, 20 Nov 2026 12:00:07 GMT", 7.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2026 12:00:07", None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("9" * 400, None),
        ("1e999", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value, NOW) == seconds
