"""The ledger: whatever is killed, stopped, cut or full, an acknowledged event is there once, and nothing that was not sent.

TOLLWATCH_TEST_LEDGER_SECONDS (5) is how long, TOLLWATCH_TEST_LEDGER_FAULTS (seconds / 10, 6 at least) how many faults at
least, TOLLWATCH_TEST_LEDGER_SEED what random things follow from. The long form:

    TOLLWATCH_TEST_LEDGER_SECONDS=600 TOLLWATCH_TEST_LEDGER_FAULTS=50 pytest -s tests/e2e/test_ledger.py
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import sys
import time

import httpx
import psycopg
import pytest

from store.deadlines import Deadlines
from store.keys import create_key
from store.migrate import upgrade
from store.settings import Settings
from tests.databases import traversable_folder
from tests.e2e.ledger import AMOUNT, Api, Books, Client, Database, Faults, SmallDisk
from tests.ports import free_ports

SECONDS = float(os.environ.get("TOLLWATCH_TEST_LEDGER_SECONDS", "5"))
FAULTS = int(os.environ.get("TOLLWATCH_TEST_LEDGER_FAULTS", str(max(6, round(SECONDS / 10)))))
SEED = int(os.environ.get("TOLLWATCH_TEST_LEDGER_SEED", str(secrets.randbelow(10**6))))
LONGEST_AWAY = min(60.0, SECONDS / 6)
CLIENTS = 4
PATIENCE = 120.0
"""Seconds for everything to come back and the spool to be empty; a limit, not a measurement."""


@pytest.fixture
def folder():
    made = traversable_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def until(ask, what):
    deadline = time.monotonic() + PATIENCE
    while not await ask():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


async def idle(api):
    """Ready, and nothing left on its spool."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            answer = await http.get(f"{api.url}/readyz")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.json()["spool"]["events"] == 0


async def register(url, key):
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http:
        answer = await http.put("/v1/agents/ledger", json={}, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 201, answer.text


async def test_what_was_acknowledged_is_there_once_and_nothing_else_is(plain_server, folder, record_property):
    rng = random.Random(SEED)
    sys.stderr.write(f"TOLLWATCH_TEST_LEDGER_SEED={SEED}\n")
    quick = {"max_connections": "50", "shared_buffers": "32MB"}
    database = Database(folder / "database", plain_server.found.bin_dir, quick)
    await database.start()
    direct = Settings(database_url=database.direct_url)
    await asyncio.to_thread(lambda: asyncio.run(upgrade(direct, Deadlines())))
    key = await create_key(
        direct, project="ledger", name="ledger", scopes=["ingest", "read", "admin"], deadlines=Deadlines()
    )
    spool = folder / "spool"
    spool.mkdir()
    environ = {
        "TOLLWATCH_DATABASE_URL": database.gate.url,
        "TOLLWATCH_SPOOL": str(spool),
        "TOLLWATCH_SPOOL_MAX": "16M",
        "TOLLWATCH_SPOOL_SEGMENT": "256k",
        "TOLLWATCH_HOME": str(folder / "home"),
    }
    port = free_ports(2)
    apis = [Api(f"api{number}", folder, port + number, environ) for number in range(2)]
    disk = SmallDisk(spool, apis)
    keeping = [asyncio.create_task(api.run()) for api in apis]
    books, stopping = Books(), asyncio.Event()
    faults = Faults(apis, database, disk, rng, longest=LONGEST_AWAY, books=books)
    try:
        await until(lambda: idle(apis[0]), "the first API is ready")
        await until(lambda: idle(apis[1]), "the second API is ready")
        await register(apis[0].url, key)
        urls = [api.url for api in apis]
        clients = [Client(urls, key, books, random.Random(rng.random())) for _ in range(CLIENTS)]
        sending = [asyncio.create_task(client.run(stopping)) for client in clients]
        disturbing = asyncio.create_task(faults.run(seconds=SECONDS, least=FAULTS))
        await asyncio.wait({disturbing, *sending}, return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        await asyncio.gather(disturbing, *sending)
        for api in apis:
            await until(lambda api=api: idle(api), f"{api.url} has drained: {api.text()[-2000:]}")
        assert [await api.stop() for api in apis] == [0, 0], [api.text()[-2000:] for api in apis]
        check(database.direct_url, books)
        left = [path for path in spool.rglob("*") if path.is_file() and path.name != ".room"]
        assert left == [], "nothing is left on the spool or in the quarantine"
    finally:
        stopping.set()
        disk.free()
        for task in keeping:
            task.cancel()
        for api in apis:
            await api.stop()
        disk.close()
        await database.stop()
    counts = {
        "seed": SEED,
        "faults": dict(faults.done),
        "seconds_away": round(faults.seconds_away),
        "sent": len(books.sent),
        "acknowledged": len(books.acknowledged),
        "answers": dict(books.answers),
    }
    record_property("ledger", counts)
    sys.stderr.write(f"{counts}\n")
    assert sum(faults.done.values()) >= FAULTS
    assert books.answers["spooled"] > 0
    assert books.answers["committed"] > 0


def check(url, books):
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT id::text FROM tollwatch.payments WHERE service = 'http://ledger'").fetchall()
        stored = {row[0] for row in rows}
        heads = connection.execute("SELECT count(*) FROM tollwatch.payment_heads WHERE status = 'settled'").fetchone()
        money = connection.execute(
            "SELECT sum(amount), count(*) FROM tollwatch.payments WHERE NOT is_duplicate AND status = 'settled'"
        ).fetchone()
    assert len(stored) == len(rows), "an event is there twice"
    lost = books.acknowledged - stored
    assert not lost, f"{len(lost)} of {len(books.acknowledged)} acknowledged events are lost"
    invented = stored - books.sent
    assert not invented, f"{len(invented)} events that nobody sent"
    assert heads[0] == len(stored)
    assert money == (AMOUNT * len(stored), len(stored)), "and each counts once"
