"""The database's disk is full, really: nothing is lost, nothing is half done, and it works on when there is room."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from store import migrate
from store.errors import DatabaseFull
from store.settings import Settings
from tests.api import world
from tests.small_disk import small_disk
from tests.store import first_release
from tests.store.catalogue import differences, snapshot
from tests.store.next_release import next_release

FULL = "the disk of the database server is full .*free space on it, then try again"
BATCH = 300


@pytest.fixture
def disk_and_url(server):
    with small_disk(server, template=server.template) as made:
        yield made


@pytest.fixture
def disk(disk_and_url):
    return disk_and_url[0]


@pytest.fixture
def database_url(disk_and_url):
    return disk_and_url[1]


async def test_ingest_spools_and_stores_everything_once_there_is_room(client, app, disk, query):
    sent, spooled = [], 0
    await client.post("/v1/events", json=[world.payment()])  # so that the names are known
    await query("DELETE FROM tollwatch.payments")
    disk.fill()
    for _ in range(40):
        batch = [world.payment(metadata={"fill": "x" * 500}) for _ in range(BATCH)]
        answer = await client.post("/v1/events", json=batch)
        sent += [event["id"] for event in batch]
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == len(batch)
        spooled += answer.json()["spooled"]
        if spooled == 3:
            break
    assert spooled, "the disk never got full"
    assert (await client.get("/v1/agents")).status_code == 200
    disk.free()
    spool = app.state.tollwatch.spool
    for _ in range(600):
        if spool.is_empty:
            break
        await asyncio.sleep(0.05)
    assert spool.is_empty
    stored = await query("SELECT id::text FROM tollwatch.payments")
    assert sorted(row.id for row in stored) == sorted(sent)


async def test_a_migration_on_a_full_disk_leaves_the_old_schema_whole(disk, database_url, deadlines):
    settings = Settings(database_url=database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        first_release.fill(connection)
        before, kept = snapshot(database_url, partitions=True), first_release.fingerprint(connection)
        disk.fill()
        with next_release():
            with pytest.raises(DatabaseFull, match=FULL):
                await migrate.upgrade(settings, deadlines)
            disk.free()
            assert differences(before, snapshot(database_url, partitions=True)) == []
            assert first_release.fingerprint(connection) == kept
            await migrate.upgrade(settings, deadlines)
        assert first_release.fingerprint(connection) == kept


async def test_a_first_migration_on_a_full_disk_leaves_nothing(server, deadlines):
    with small_disk(server, template=None) as (disk, url):
        before = snapshot(url)
        disk.fill()
        with pytest.raises(DatabaseFull, match=FULL):
            await migrate.upgrade(Settings(database_url=url), deadlines)
        disk.free()
        assert differences(before, snapshot(url)) == []
        await migrate.upgrade(Settings(database_url=url), deadlines)
