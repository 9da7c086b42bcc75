"""The database's disk is full, really: nothing is lost, nothing is half done, and it works on when there is room."""

from __future__ import annotations

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


async def test_ingest_asks_to_come_back_and_stores_everything_once_there_is_room(client, disk, query):
    sent, refused = [], []
    disk.fill()
    for _ in range(40):
        batch = [world.payment(metadata={"fill": "x" * 500}) for _ in range(BATCH)]
        answer = await client.post("/v1/events", json=batch)
        sent += [event["id"] for event in batch]
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) > 0
            assert "nothing was stored" in answer.json()["detail"]
            refused.append(batch)
            if len(refused) == 3:
                break
    assert refused, "the disk never got full"
    assert (await client.get("/v1/agents")).status_code == 200
    disk.free()
    for batch in refused:
        answer = await client.post("/v1/events", json=batch)
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == len(batch)
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
