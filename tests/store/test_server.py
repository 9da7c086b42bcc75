"""The server: what is refused, what is warned of, and the figures that the exporter tells."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text

from store import partitions, server, startup
from store.edition import Edition
from store.engine import create_engine, reading
from store.errors import StartRefused
from store.horizons import RELATIONS, ROLLUPS
from store.logs import fields_of
from tests.store.world import rows

GOOD = {
    "fsync": True,
    "full_page_writes": True,
    "synchronous_commit": True,
    "max_worker_processes": 32,
    "max_parallel_workers": 8,
    "background_workers": 20,
}


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=2)
    yield made
    await made.dispose()


@pytest.fixture
def kind(edition):
    return Edition(edition)


async def test_restore_mode_is_refused(database_url, edition, settings, deadlines):
    if edition == "plain":
        return
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT timescaledb_pre_restore()")
    engine = create_engine(database_url, deadlines)
    with pytest.raises(StartRefused, match="timescaledb_post_restore"):
        await startup.check(engine, settings)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT timescaledb_post_restore()")
    await engine.dispose()
    assert await startup.check(engine, settings) == edition
    await engine.dispose()


async def test_a_start_without_background_workers_is_possible_and_warns(engine, edition, settings, caplog):
    """The test servers are such ones: they have no workers, and no fsync."""
    with caplog.at_level(logging.WARNING):
        assert await startup.check(engine, settings) == edition
    warned = {
        fields_of(record)["setting"] for record in caplog.records if record.getMessage() == startup.DATABASE_UNFIT
    }
    ((fsync, workers),) = await rows(
        engine, "SELECT current_setting('fsync'), current_setting('timescaledb.max_background_workers', true)"
    )
    assert ("fsync" in warned) == (fsync == "off")
    assert ("timescaledb.max_background_workers" in warned) == (edition == "community" and workers == "0")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"background_workers": 0}, "is 0, so no job ever runs; set it to 18"),
        ({"background_workers": 17}, "is 17, so refreshes wait for each other; set it to 18"),
        ({"max_worker_processes": 30}, "max_worker_processes is 30, .* set it to 31 or more"),
    ],
)
def test_workers_are_counted(bad, problem):
    assert server._workers(SimpleNamespace(**GOOD)) == []
    (unfit,) = server._workers(SimpleNamespace(**(GOOD | bad)))
    assert unfit.problem.startswith(unfit.setting)
    assert re.search(problem, unfit.problem)
    assert len(ROLLUPS) == 16


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_durability_is_warned_of(name):
    assert server._durability(SimpleNamespace(**GOOD)) == []
    (unfit,) = server._durability(SimpleNamespace(**(GOOD | {name: False})))
    assert (unfit.setting, "acknowledged" in unfit.problem) == (name, True)


async def test_figures_are_the_servers(engine, kind):
    reader = server.ServerReader(engine, kind)
    async with engine.connect() as other:
        await other.execute(text("SELECT 1"))
        await other.execute(text("SELECT pg_sleep(0.05)"))
        found = await reader.read()
        assert found.oldest_transaction_s >= 0.05
    ((most, size),) = await rows(
        engine, "SELECT current_setting('max_connections')::int, pg_database_size(current_database())"
    )
    assert (found.max_connections, found.bytes) == (most, pytest.approx(size, rel=0.2))
    assert 2 <= found.connections <= most
    assert found.deadlocks == 0
    assert found.temp_bytes >= 0
    assert set(found.headroom) == ({relation.name for relation in RELATIONS} if kind is Edition.PLAIN else set())
    assert bool(found.jobs) == (kind is Edition.COMMUNITY)
    async with engine.begin() as connection:
        await connection.execute(
            text("CREATE TABLE public.big AS SELECT repeat('x', 2000) FROM generate_series(1, 2000)")
        )
    assert (await reader.read()).bytes == found.bytes, "measured once a minute"


async def test_headroom_ends_at_the_first_gap(engine, kind, settings):
    if kind is not Edition.PLAIN:
        return
    await partitions.ensure_ahead(engine, kind, settings)

    async def headroom():
        async with reading(engine) as connection:
            return {name: timedelta(seconds=value) for name, value in (await server.headroom(connection)).items()}

    for relation in RELATIONS:
        ahead = (await headroom())[relation.name]
        assert timedelta() <= ahead - settings.partitions_ahead <= relation.chunk_interval
    day = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y%m%d")

    async def drop(name):
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP TABLE tollwatch_internal.{name}"))

    await drop(f"api_requests_{day}")
    found = await headroom()
    assert timedelta(days=2) <= found["api_requests"] <= timedelta(days=3)
    assert found["queue_events"] > timedelta(days=13)
    await drop(f"api_requests_{datetime.now(UTC):%Y%m%d}")
    assert timedelta(days=-1) <= (await headroom())["api_requests"] <= timedelta()
    assert await partitions.ensure_ahead(engine, kind, settings) == 2
    assert (await headroom())["api_requests"] > timedelta(days=13)


async def test_native_jobs_are_told_by_state(engine, kind):
    if kind is not Edition.COMMUNITY:
        return

    async def states():
        async with reading(engine) as connection:
            return await server.native_jobs(connection)

    async def migrated(ago):
        # The test servers have no workers: nobody ran the jobs since the migration.
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE tollwatch.schema_info SET updated_at = now() - :ago"), {"ago": ago})

    await migrated(timedelta())
    assert await states() == {"ok": 42, "failing": 0, "paused": 0, "overdue": 0, "missing": 0}
    jobs = await rows(
        engine, "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_schema = 'tollwatch' ORDER BY 1"
    )
    paused, removed = jobs[0][0], jobs[1][0]
    async with engine.begin() as connection:
        await connection.execute(text("SELECT alter_job(:job, scheduled => false)"), {"job": paused})
        await connection.execute(text("SELECT delete_job(:job)"), {"job": removed})
    assert await states() == {"ok": 40, "failing": 0, "paused": 1, "overdue": 0, "missing": 1}
    await migrated(timedelta(hours=1))
    assert await states() == {"ok": 0, "failing": 0, "paused": 1, "overdue": 40, "missing": 1}
    async with reading(engine) as connection:
        problems = [unfit.problem for unfit in await server.check(connection, kind) if unfit.setting == "jobs"]
    assert problems == ["TimescaleDB's jobs: 1 paused, 40 overdue, 1 missing; `tollwatch db status` says which and why"]
