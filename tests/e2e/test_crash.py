"""kill -9 of everything under load: the next start is ready soon and nothing that was acknowledged is missing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import httpx
import psutil
import psycopg
import pytest

from store.embedded_place import recorded_base
from store.identity import uuid7
from tests.databases import ROOT, traversable_folder
from tests.e2e.stack import DEV_KEY, Process, status_of, until
from tests.ports import free_ports


@pytest.fixture
def home():
    folder = traversable_folder()
    yield folder / "home"
    place = recorded_base(folder / "home")  # as root in a folder of root's alone, the data is elsewhere
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def start(home, ports):
    return Process(
        "up",
        ["cli", "up", "--port", str(ports), "--sandbox-port", str(ports + 2)],
        home.parent,
        TOLLWATCH_HOME=str(home),
    )


def database_url(home):
    command = [sys.executable, "-m", "cli", "db", "url"]
    environ = {**os.environ, "TOLLWATCH_HOME": str(home)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def everything(up, url):
    """The supervisor, its children, and the PostgreSQL that it started."""
    mine = psutil.Process(up.popen.pid)
    with psycopg.connect(url) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        postmaster = backend.parent()
        return [mine, *mine.children(recursive=True), postmaster, *postmaster.children(recursive=True)]


class Load(threading.Thread):
    """Sends batches until the server is gone; remembers what was acknowledged."""

    def __init__(self, base):
        super().__init__()
        self.base, self.acknowledged, self.first = base, [], threading.Event()

    def run(self):
        with httpx.Client(base_url=self.base, headers=DEV_KEY, timeout=10, trust_env=False) as http:
            while True:
                now = datetime.now(UTC)
                batch = [
                    {
                        "type": "payment",
                        "id": str(uuid7(now)),
                        "agent": "loader",
                        "payment_id": str(uuid7(now)),
                        "status": "settled",
                        "amount": "7",
                        "asset": "USDC",
                        "service": "http://load",
                        "metadata": {"nonce": secrets.token_hex(4)},
                    }
                    for _ in range(50)
                ]
                try:
                    answer = http.post("/v1/events", json=batch)
                except httpx.HTTPError:
                    return
                if answer.status_code != 200:
                    return
                told = answer.json()
                assert told["accepted"] == 50, told
                self.acknowledged += [event["id"] for event in batch]
                self.first.set()


def test_kill_9_of_everything_loses_nothing_that_was_acknowledged(home):
    ports = free_ports(6)
    base = f"http://127.0.0.1:{ports}"
    up = start(home, ports)
    try:
        until(
            lambda: status_of(f"{base}/readyz") == 200 or up.popen.poll() is not None, 120, "the first start is ready"
        )
        assert up.popen.poll() is None, up.text()
        registered = httpx.put(f"{base}/v1/agents/loader", headers=DEV_KEY, json={}, timeout=10, trust_env=False)
        assert registered.status_code == 201, registered.text
        loads = [Load(base) for _ in range(3)]
        for load in loads:
            load.start()
        for load in loads:
            assert load.first.wait(30)
        until(lambda: sum(len(load.acknowledged) for load in loads) > 3000, 60, "some load")
        for process in everything(up, database_url(home)):
            with contextlib.suppress(psutil.NoSuchProcess):  # a child whose lifeline was cut ends by itself
                process.send_signal(signal.SIGKILL)
        up.popen.wait(10)
        for load in loads:
            load.join(30)

        up = start(home, ports)
        until(lambda: status_of(f"{base}/readyz") == 200 or up.popen.poll() is not None, 30, "ready within 30 s")
        assert up.popen.poll() is None, up.text()

        # What was acknowledged while the database was already gone comes from the spool.
        until(
            lambda: httpx.get(f"{base}/readyz", timeout=5, trust_env=False).json()["spool"]["events"] == 0,
            30,
            "drained",
        )
        acknowledged = [event for load in loads for event in load.acknowledged]
        with psycopg.connect(database_url(home)) as connection:
            stored = connection.execute(
                "SELECT id::text FROM tollwatch.payments WHERE service = 'http://load'"
            ).fetchall()
        kept = {row[0] for row in stored}
        assert len(kept) == len(stored)
        assert not set(acknowledged) - kept
        # At most the batch that each client had in flight was stored without its answer having arrived.
        assert len(kept) - len(acknowledged) <= 50 * len(loads)

        # And it works on: the balances follow the (new) chain.
        def followed():
            items = httpx.get(f"{base}/v1/balances", headers=DEV_KEY, timeout=10, trust_env=False).json()["items"]
            newest = max((item["ts"] for item in items), default="")
            return newest > datetime.fromtimestamp(time.time() - 5, UTC).isoformat()

        until(followed, 30, "balances follow the chain")
        assert up.stop(60) == 0, up.text()[-3000:]
    finally:
        up.stop(60)
