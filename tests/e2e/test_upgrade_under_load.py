"""Upgrades while everybody works: no request fails beyond a retry, no event is lost or stored twice.

A running service refuses a schema older than its code when it starts, so the order in production is: the old release
serves, the new one migrates, then the services are replaced. Two tests play that:

- the present code serves, ingest and reads, while a later release (tests.store.next_release) migrates, goes back, and
  migrates again;
- the first release's SQL (tests.store.first_release) writes and reads on revision 0001 while `tollwatch migrate` goes to
  head.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter

import httpx
import psycopg
import pytest

from store import migrate
from store.deadlines import Deadlines
from store.settings import Settings
from tests.api import world
from tests.e2e.stack import Process, status_of, until
from tests.keys import create_key
from tests.ports import free_ports
from tests.store import first_release
from tests.store.catalogue import differences, snapshot
from tests.store.next_release import NEXT, next_release

WRITERS, READERS = 3, 2
BATCH = int(os.environ.get("TOLLWATCH_TEST_LOAD_BATCH", "20"))
READS = (
    "/v1/agents",
    "/v1/payments?limit=20",
    "/v1/requests?limit=20",
    "/v1/balances",
    "/v1/audit-trail?limit=5",
    "/v1/payments/hourly?group_by=agent",
    "/v1/runway",
    "/metrics",
)
RELATIONS = {"payments": "payment", "api_requests": "api_request", "audit_events": "audit", "queue_events": "queue"}


class Client(threading.Thread):
    """Asks until told to stop. Whatever is not a success must say when to come back, and then succeed."""

    def __init__(self, url, key):
        super().__init__()
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
        self.stop, self.answers, self.statuses, self.fault = threading.Event(), 0, Counter(), None

    def run(self):
        try:
            while not self.stop.is_set():
                self.ask()
                self.answers += 1
        except Exception as exc:  # noqa: BLE001 (the test looks at it)
            self.fault = exc
        finally:
            self.http.close()

    def insist(self, method, path, **more):
        for _ in range(40):
            answer = self.http.request(method, path, **more)
            self.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                return answer
            assert answer.status_code == 503, (path, answer.status_code, answer.text)
            assert 0 < int(answer.headers["retry-after"]) < 60
            # Sooner than asked: that is harder on the server.
            self.stop.wait(0.1)
        raise AssertionError(f"{path} never succeeded")


class Writer(Client):
    """Ingests batches of every type, and remembers what was acknowledged."""

    def __init__(self, url, key, number):
        super().__init__(url, key)
        self.number, self.sent = number, {name: [] for name in RELATIONS.values()}

    def ask(self):
        made = {"payment": world.payment, "api_request": world.api_request, "audit": world.audit, "queue": world.queue}
        batch = [make(agent=f"agent-{self.number}") for make in made.values() for _ in range(BATCH // 4)]
        told = self.insist("POST", "/v1/events", json=batch).json()
        assert told["rejected"] == [], told
        assert told["spooled"] or told["accepted"] + told["duplicates"] == len(batch), told
        for event in batch:
            self.sent[event["type"]].append(event["id"])


class Reader(Client):
    """Walks through the reads."""

    def ask(self):
        for path in READS:
            self.insist("GET", path)


@pytest.fixture
def service(database_url, tmp_path):
    """The API of the present release, as a process in production mode, and a key."""
    scopes = ["ingest", "read", "admin", "metrics"]
    made = create_key(
        Settings(database_url=database_url), project="acme", name="k", scopes=scopes, deadlines=Deadlines()
    )
    key, port = asyncio.run(made), free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environ = {"TOLLWATCH_DATABASE_URL": database_url, "TOLLWATCH_PORT": str(port), "TOLLWATCH_HOME": str(tmp_path)}
    process = Process("api", ["cli", "api"], tmp_path, **environ)
    try:
        until(lambda: status_of(f"{url}/readyz") == 200 or process.popen.poll() is not None, 60, "the API is ready")
        yield url, key
    finally:
        code = process.stop()
    assert code == 0, process.text()[-2000:]


def revision(database_url):
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT version_num FROM tollwatch.alembic_version").fetchone()[0]


def run(arguments, tmp_path, database_url):
    process = Process("migrate", arguments, tmp_path, TOLLWATCH_DATABASE_URL=database_url)
    try:
        assert process.popen.wait(120) == 0, process.text()[-2000:]
    finally:
        process.stop()


def test_a_later_release_migrates_while_this_one_serves(service, database_url, tmp_path):
    url, key = service
    present, migrate_to = snapshot(database_url), migrate.head()
    clients = [*(Writer(url, key, number) for number in range(WRITERS)), *(Reader(url, key) for _ in range(READERS))]
    for number in range(WRITERS):
        made = httpx.put(
            f"{url}/v1/agents/agent-{number}", headers=clients[0].http.headers, json={}, timeout=10, trust_env=False
        )
        assert made.status_code == 201, made.text

    def all_go_on():
        before = [client.answers for client in clients]
        until(lambda: all(c.answers > b + 1 or c.fault for c, b in zip(clients, before, strict=True)), 60, "all go on")

    for client in clients:
        client.start()
    try:
        all_go_on()
        run(["tests.store.next_release", "upgrade"], tmp_path, database_url)
        assert revision(database_url) == NEXT
        all_go_on()
        with next_release():
            asyncio.run(migrate.downgrade(Settings(database_url=database_url), Deadlines(), migrate_to))
        all_go_on()
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(60)
    assert [client.fault for client in clients if client.fault] == []
    with psycopg.connect(database_url, autocommit=True) as connection:
        for relation, name in RELATIONS.items():
            sent = sorted(event for client in clients[:WRITERS] for event in client.sent[name])
            query = f"SELECT id::text FROM tollwatch.{relation} ORDER BY 1"
            until(lambda q=query, s=sent: len(connection.execute(q).fetchall()) >= len(s), 60, f"{relation} arrived")
            assert [row[0] for row in connection.execute(query)] == sent, relation
            assert len(sent) >= WRITERS * 6 * BATCH // 4
        told = connection.execute("SELECT sum(payments), sum(duplicates) FROM tollwatch.payments_hourly").fetchone()
        assert told == (sum(len(client.sent["payment"]) for client in clients[:WRITERS]), 0)
    assert differences(present, snapshot(database_url)) == []


def test_the_first_schema_goes_to_head_while_its_clients_write(empty_database_url, tmp_path):
    asyncio.run(migrate.upgrade(Settings(database_url=empty_database_url), Deadlines(), "0001"))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        first_release.fill(connection)
    clients = [FirstClient(empty_database_url) for _ in range(WRITERS)]
    for client in clients:
        client.start()
    try:
        until(lambda: all(client.rounds > 1 or client.fault for client in clients), 60, "they write")
        run(["cli", "migrate"], tmp_path, empty_database_url)
        before = [client.rounds for client in clients]
        until(lambda: all(c.rounds > b + 1 or c.fault for c, b in zip(clients, before, strict=True)), 60, "they go on")
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(60)
    assert [client.fault for client in clients if client.fault] == []
    assert revision(empty_database_url) == migrate.head()
    with psycopg.connect(empty_database_url) as connection:
        for relation in ("payments", "api_requests", "audit_events", "queue_events"):
            filled, written = 3 * 40, sum(client.rounds for client in clients) * FirstClient.ROWS
            assert connection.execute(f"SELECT count(*) FROM tollwatch.{relation}").fetchone() == (filled + written,)


class FirstClient(threading.Thread):
    """The first release's statements, each its own transaction, with that release's timeouts; a lock is waited for again."""

    ROWS = 10

    def __init__(self, url):
        super().__init__()
        self.url, self.stop, self.rounds, self.fault = url, threading.Event(), 0, None

    def run(self):
        options = "-c lock_timeout=4s -c statement_timeout=5s"
        try:
            with psycopg.connect(self.url, autocommit=True, options=options) as connection:
                while not self.stop.is_set():
                    for statement in first_release.WRITES:
                        self.insist(connection, statement, {"rows": self.ROWS, "age": "5 minutes"})
                    for statement in first_release.READS:
                        self.insist(connection, statement, None)
                    self.rounds += 1
        except Exception as exc:  # noqa: BLE001 (the test looks at it)
            self.fault = exc

    def insist(self, connection, statement, values):
        for _ in range(10):
            try:
                return connection.execute(statement, values)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                self.stop.wait(0.1)
        raise AssertionError("no success in ten tries")
