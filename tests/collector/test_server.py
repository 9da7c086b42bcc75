from __future__ import annotations

import socket

import httpx
import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from collector.server import serving
from store.errors import StartRefused


@pytest.fixture
async def client(registry):
    Counter("tollwatch_things", "Things.", registry=registry).inc(3)
    async with (
        serving(registry, "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


async def test_metrics_in_prometheus_text(client):
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["tollwatch_things"].samples[0].value == 3


async def test_health(client):
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    head = await client.head("/healthz")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/x", 404), ("POST", "/metrics", 405)]
)
async def test_nothing_else(client, method, path, status):
    assert (await client.request(method, path)).status_code == status


async def test_a_taken_port_is_refused_with_what_to_do(registry):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartRefused, match=f"127.0.0.1:{port}.*TOLLWATCH_COLLECTOR_PORT"):
            async with serving(registry, "127.0.0.1", port):
                pass


async def test_an_address_that_cannot_be_is_refused(registry):
    with pytest.raises(StartRefused, match="TOLLWATCH_COLLECTOR_HOST"):
        async with serving(registry, "256.0.0.1", 0):
            pass
