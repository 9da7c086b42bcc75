"""A migration among people at work: it gives way, it gives up with reasons, and killed it leaves what was there."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text

from store import migrate
from store.engine import create_engine, writing
from store.errors import DatabaseTimeout, DatabaseUnavailable
from store.settings import Settings
from tests.e2e.stack import Process, until
from tests.store import first_release
from tests.store.catalogue import differences, snapshot
from tests.store.next_release import NEXT, next_release

WAITING = """
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND a.application_name = 'tollwatch' AND l.relation = %s::regclass AND NOT l.granted"""
REVISION = "SELECT version_num FROM tollwatch.alembic_version"


@pytest.fixture
def busy(database_url):
    """A database with data, and a connection of someone who works on it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        first_release.fill(connection, ages=("1 minute",))
        yield connection


@contextmanager
def long_read(database_url, relation):
    """A transaction that has read the relation, and goes on: an ACCESS SHARE lock, the weakest there is."""
    with psycopg.connect(database_url) as reader:
        reader.execute(f"SELECT count(*) FROM {relation}")
        yield reader
        reader.rollback()


async def test_writers_get_through_while_a_migration_waits_for_a_long_read(database_url, busy, deadlines, caplog):
    """A waiting ALTER TABLE blocks all who come after it: so it must not wait for long."""
    brief = replace(deadlines, migration_lock=0.1)
    done = threading.Event()

    def work() -> int:
        written = 0
        with psycopg.connect(database_url, autocommit=True, options="-c lock_timeout=4s") as writer:
            while not done.is_set():
                for statement in first_release.WRITES:
                    writer.execute(statement, {"rows": 1, "age": f"{written + 1} seconds"})
                written += 1
        return written

    with next_release():
        with long_read(database_url, "tollwatch.payments"):
            writing = asyncio.create_task(asyncio.to_thread(work))
            migrating = asyncio.create_task(migrate.upgrade(Settings(database_url=database_url), brief))
            while sum(record.message == migrate.MIGRATION_WAITS for record in caplog.records) < 2:
                await asyncio.sleep(0.02)
                assert not migrating.done()
                assert not writing.done()
        await migrating
    done.set()
    assert await writing > 2
    assert busy.execute(REVISION).fetchone() == (NEXT,)


async def test_a_migration_that_finds_no_gap_says_so_and_changes_nothing(database_url, busy, deadlines):
    impatient = replace(deadlines, migration_lock=0.05, migration_patience=0.3)
    before = snapshot(database_url, partitions=True)
    with next_release(), long_read(database_url, "tollwatch.agents"):
        with pytest.raises(DatabaseTimeout, match=r"no gap in 0\.3 s .* end long transactions .* nothing was changed"):
            await migrate.upgrade(Settings(database_url=database_url), impatient)
        assert differences(before, snapshot(database_url, partitions=True)) == []
    assert busy.execute(REVISION).fetchone() == (migrate.head(),)


async def test_a_second_migration_waits_for_its_turn_and_says_when_it_was_in_vain(database_url, deadlines):
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('tollwatch.migrations'))")
        with pytest.raises(DatabaseTimeout, match=r"another session has been migrating this database for 0\.2 s"):
            await migrate.upgrade(Settings(database_url=database_url), replace(deadlines, migration_queue=0.2))
        queued = asyncio.create_task(migrate.upgrade(Settings(database_url=database_url), deadlines))
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while other.execute(waits).fetchone() == (0,):  # noqa: ASYNC110 (it happens in the server)
            await asyncio.sleep(0.01)
        other.execute("SELECT pg_advisory_unlock(hashtext('tollwatch.migrations'))")
        await queued


def test_a_migration_that_is_killed_leaves_the_old_schema_whole(database_url, busy, tmp_path):
    """kill -9 with all but the last change done and not committed; then the same command again."""
    before, kept = snapshot(database_url, partitions=True), first_release.fingerprint(busy)
    release = ["tests.store.next_release"]
    with long_read(database_url, "tollwatch.agents"):
        process = Process("migrate", [*release, "upgrade"], tmp_path, TOLLWATCH_DATABASE_URL=database_url)
        until(lambda: busy.execute(WAITING, ("tollwatch.agents",)).fetchone()[0], 30, "it waits for its last lock")
        os.kill(process.popen.pid, signal.SIGKILL)
        process.popen.wait(10)
    assert differences(before, snapshot(database_url, partitions=True)) == []
    assert first_release.fingerprint(busy) == kept
    assert busy.execute(REVISION).fetchone() == (migrate.head(),)
    again = Process("again", [*release, "upgrade"], tmp_path, TOLLWATCH_DATABASE_URL=database_url)
    assert again.popen.wait(60) == 0, again.text()
    assert busy.execute(REVISION).fetchone() == (NEXT,)
    assert first_release.fingerprint(busy) == kept


def test_the_first_migration_can_be_killed_too(empty_database_url, database_url, tmp_path):
    """Tables, partitions and functions are built and not committed; the first view waits for the catalogue."""
    before = snapshot(empty_database_url)
    with (
        psycopg.connect(empty_database_url, autocommit=True) as looking,
        psycopg.connect(empty_database_url) as holding,
    ):
        holding.execute("LOCK TABLE pg_catalog.pg_rewrite IN SHARE MODE")
        process = Process("migrate", ["cli", "migrate"], tmp_path, TOLLWATCH_DATABASE_URL=empty_database_url)
        until(lambda: looking.execute(WAITING, ("pg_rewrite",)).fetchone()[0], 60, "it wants to make a view")
        os.kill(process.popen.pid, signal.SIGKILL)
        process.popen.wait(10)
        holding.rollback()
    assert differences(before, snapshot(empty_database_url)) == []
    again = Process("again", ["cli", "migrate"], tmp_path, TOLLWATCH_DATABASE_URL=empty_database_url)
    assert again.popen.wait(60) == 0, again.text()
    assert differences(snapshot(database_url), snapshot(empty_database_url)) == []


async def test_a_session_with_plans_of_the_old_columns_is_replaced(database_url, deadlines):
    """PostgreSQL refuses a prepared statement whose columns changed, on that session for ever: one retry must help."""
    engine = create_engine(database_url, deadlines, pool_size=1)
    statement = text("SELECT * FROM tollwatch.agents")
    for _ in range(8):  # the driver prepares what it sent five times
        async with writing(engine) as connection:
            await connection.execute(statement)
    with psycopg.connect(database_url, autocommit=True) as migrating:
        migrating.execute("ALTER TABLE tollwatch.agents ADD COLUMN owner text")
    with pytest.raises(DatabaseUnavailable, match="cached plan"):
        async with writing(engine) as connection:
            await connection.execute(statement)
    async with writing(engine) as connection:
        assert "owner" in list((await connection.execute(statement)).keys())
    await engine.dispose()
