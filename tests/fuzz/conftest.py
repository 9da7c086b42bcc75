"""One real API process for all that is thrown at it, on a database of its own."""

from __future__ import annotations

import asyncio
import os

import httpx
import psutil
import psycopg
import pytest

from store.deadlines import Deadlines
from store.keys import create_key
from store.settings import Settings
from store.tables import SCOPES
from tests.api.world import AGENT, PROJECT, WALLET
from tests.e2e.stack import Process, status_of, until
from tests.ports import free_ports

BODIES = int(os.environ.get("TOLLWATCH_TEST_BODIES", "1000"))
"""Mutated bodies; 100,000 were sent once (docs/benchmarks.md)."""
CASES = int(os.environ.get("TOLLWATCH_TEST_CASES", "10"))
"""Requests that are made up per operation of the API."""


class Target:
    """The API under fire."""

    def __init__(self, process, url, key, database_url):
        self.url, self.key, self.database_url = url, key, database_url
        self.process = process

    def rss_mb(self):
        return psutil.Process(self.process.popen.pid).memory_info().rss / 1024**2

    def rows(self, statement):
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement).fetchall()

    def alive(self):
        return self.process.popen.poll() is None and status_of(f"{self.url}/readyz") == 200


@pytest.fixture(scope="module")
def target(plain_server, tmp_path_factory):
    name = plain_server.clone()
    database_url = plain_server.url(name)
    settings = Settings(database_url=database_url)
    key = asyncio.run(create_key(settings, project=PROJECT, name="fuzz", scopes=SCOPES, deadlines=Deadlines()))
    port, folder = free_ports(1), tmp_path_factory.mktemp("fuzz")
    environ = {"DATABASE_URL": database_url, "PORT": str(port), "HOME": str(folder), "MAX_BODY": "1M"}
    environ = {f"TOLLWATCH_{variable}": value for variable, value in environ.items()}
    process = Process("api", ["cli", "api"], folder, **environ)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: status_of(f"{url}/readyz") == 200, 60, "the API is ready")
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as http:
            assert http.put(f"/v1/agents/{AGENT}", json={}).status_code == 201
            assert http.put(f"/v1/agents/{AGENT}/wallets/{WALLET}", json={}).status_code == 201
        yield Target(process, url, key, database_url)
    finally:
        code = process.stop()
        plain_server.drop(name)
    assert code == 0, process.text()[-2000:]
    assert "Traceback" not in process.text()
