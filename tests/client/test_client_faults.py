"""The ledger under faults: a real API on a real database is killed, cut off and refused; every event arrives once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import threading

import httpx
import psycopg
from psycopg import sql
from tollwatch import ApiRequest, Audit, Balance, Payment, Queue, Recorder, Tuning

from store.deadlines import Deadlines
from store.settings import Settings
from store.startup import prepare_sandbox
from tests.client.tools import in_balance
from tests.e2e.stack import DEV_KEY, Process, listed, status_of, until
from tests.ports import free_ports

ROUNDS = int(os.environ.get("TOLLWATCH_TEST_CLIENT_ROUNDS", "1"))
WALLETS = ("AKnL4NNf3DGWZJS6cPknBuEGnVsV4A4m5tgebLHaRSZ9", "9hSR6S7WPtxmTojgo6GG3k4yDPecgJY292j7xrsUGWBu")


class Cutter:
    """A TCP proxy in front of the API that cuts connections when it is told to, in the middle of whatever they carry."""

    def __init__(self, port):
        self.port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._pairs = set()
        self._dice = random.Random(1)
        self.cutting = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.port), 5)
                except OSError:
                    near.close()
                    continue
                self._pairs.add((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if self.cutting and self._dice.random() < 0.3:
                    self.cuts += 1
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.close()
        for pair in self._pairs:
            for one in pair:
                one.close()


class Agent(threading.Thread):
    """Records events of every kind until it is told to stop; remembers their ids."""

    def __init__(self, recorder, wallet):
        super().__init__()
        self.wallet = wallet
        self.recorder, self.stopping, self.ids = recorder, threading.Event(), []

    def run(self):
        number = 0
        while not self.stopping.wait(0.03):
            number += 1
            request_id = self.recorder.new_id()
            for event in (
                Payment(payment_id=request_id, request_id=request_id, status="settled", amount=number, asset="USDC", service="https://s"),
                ApiRequest(request_id=request_id, service="https://s", outcome="ok"),
                Audit(event_type="x.note", details={"number": number}),
                Queue(request_id=request_id, state="queued"),
                Balance(wallet=self.wallet, asset="USDC", amount=number, slot=number),
            ):  # fmt: skip
                self.ids.append(self.recorder.record(event))


@contextlib.contextmanager
def api_on(url, port, home):
    settings = {
        "TOLLWATCH_DATABASE_URL": url, "TOLLWATCH_PORT": str(port), "TOLLWATCH_SANDBOX": "true", "TOLLWATCH_HOME": str(home),
    }  # fmt: skip
    process = Process("api", ["cli", "api"], home, **settings)
    try:
        until(
            lambda: status_of(f"http://127.0.0.1:{port}/readyz") == 200 or process.popen.poll(), 60, "the API is ready"
        )
        assert process.popen.poll() is None, process.text()
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()


@contextlib.contextmanager
def database_away(server, name):
    """Nobody gets in, and whoever is in is thrown out."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def progress(recorders, events=100):
    """Wait until so many more events of each have arrived."""
    for recorder in recorders:
        before = recorder.stats().accepted
        until(lambda: recorder.stats().accepted >= before + events, 60, "events arrive")  # noqa: B023


def trouble(recorders):
    """Wait until each has noticed."""
    for recorder in recorders:
        until(lambda: recorder.stats().trouble, 60, "the recorder notices")  # noqa: B023


def test_every_event_arrives_once_or_is_counted(plain_server, tmp_path):
    """Two agents at once: one with a disk buffer, one without."""
    name, port = plain_server.clone(), free_ports(2)
    url = plain_server.url(name)
    asyncio.run(prepare_sandbox(Settings(database_url=url, sandbox=True), Deadlines()))
    cutter = Cutter(port)
    tuning = Tuning(
        linger_s=0.02, first_backoff_s=0.05, max_backoff_s=0.2, slow_s=0.2, max_retry_after_s=0.2, batch_events=100,
        max_events=1_000_000, max_bytes=2**30, http=lambda: httpx.Client(trust_env=False),
    )  # fmt: skip
    recorders = [
        Recorder(cutter.url, "tollwatch-dev", "mine", disk=disk, tuning=tuning) for disk in (None, tmp_path / "disk")
    ]
    agents = [Agent(recorder, wallet) for recorder, wallet in zip(recorders, WALLETS, strict=True)]
    for agent in agents:
        agent.start()
    try:
        for _ in range(ROUNDS):
            with api_on(url, port, tmp_path):
                progress(recorders)
                cutter.cutting = True
                until(lambda: cutter.cuts > 5, 60, "connections are cut")
                cutter.cutting = False
                progress(recorders)
            trouble(recorders)  # killed -9
        with api_on(url, port, tmp_path):
            progress(recorders)
            with database_away(plain_server, name):
                for recorder in recorders:
                    until(lambda: recorder.stats().spooled, 60, "events are kept while the database is away")  # noqa: B023
            progress(recorders)
            for agent in agents:
                agent.stopping.set()
                agent.join()
                assert agent.recorder.flush(60), agent.recorder.stats()
            until(lambda: waiting(f"http://127.0.0.1:{port}") == 0, 60, "the server's spool is empty")
            check(agents, url, f"http://127.0.0.1:{port}")
    finally:
        for agent in agents:
            agent.stopping.set()
            agent.join()
            agent.recorder.close(1)
        cutter.close()
    assert not list((tmp_path / "disk").iterdir())
    plain_server.drop(name)


def waiting(api):
    """Events on the server's spool; None while it cannot say."""
    answer = httpx.get(f"{api}/metrics", timeout=20, trust_env=False)
    found = re.search(r"^tollwatch_spool_events\S* (\S+)$", answer.text, re.MULTILINE)
    return float(found[1]) if found else None


def check(agents, url, api):
    for agent in agents:
        stats = agent.recorder.stats()
        assert in_balance(stats)
        assert (stats.recorded, stats.dropped, stats.rejected, stats.invalid) == (len(agent.ids), 0, {}, {})
        assert (stats.waiting, stats.errors, stats.disk_errors) == (0, 0, 0)
    made = [ident for agent in agents for ident in agent.ids]
    stored = []
    with psycopg.connect(url) as connection:
        for relation in ("payments", "api_requests", "audit_events", "queue_events"):
            ids = sql.SQL("SELECT id::text FROM tollwatch.{} WHERE origin = 'agent'").format(sql.Identifier(relation))
            stored += [ident for (ident,) in connection.execute(ids).fetchall()]
        (samples,) = connection.execute("SELECT count(*) FROM tollwatch.balance_samples").fetchone()
    assert len(stored) == len(set(stored))
    # Every fifth is a balance, which is known by wallet, asset and millisecond and keeps no id.
    assert set(stored) == {ident for number, ident in enumerate(made) if number % 5 != 4}
    assert samples == len(made) // 5
    with httpx.Client(base_url=api, headers=DEV_KEY, timeout=20, trust_env=False) as http:
        assert {item["agent"] for item in listed(http, "/v1/payments", limit=100)} == {"mine"}
