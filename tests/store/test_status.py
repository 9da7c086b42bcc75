"""`tollwatch db status`: its figures are those of an independent recomputation, whatever was late, dropped or failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from store import job_runs, migrate, partitions, retention, rollups, status
from store.edition import Edition
from store.engine import create_engine
from store.errors import SchemaMismatch
from store.facts import Facts
from store.horizons import RELATIONS, ROLLUPS
from store.job_runs import JobRun
from store.writer import FactWriter
from tests.store.world import audit, make_world, moment, payment, queued, request, rows, sample

HOUR, DAY = 3600, 86400
TREE = """
WITH RECURSIVE tree AS (
  SELECT CAST(:relation AS regclass)::oid AS oid
  UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
)
SELECT sum(pg_table_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint, count(*) - 1
FROM tree JOIN pg_class c USING (oid) WHERE c.relkind = 'r' OR c.relkind = 'p'
"""


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, replace(deadlines, read_statement=30), pool_size=4)
    yield made
    await made.dispose()


@pytest.fixture
def kind(edition):
    return Edition(edition)


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


@pytest.fixture
def refresh(engine, kind, settings):
    """Every refresh once, as the collector's job or TimescaleDB's would; hours before days."""

    async def run():
        if kind is not Edition.COMMUNITY:
            await rollups.refresh(engine, kind, settings)
            return
        sql = "SELECT hypertable_name, job_id FROM timescaledb_information.jobs WHERE proc_name ~ 'refresh'"
        jobs = dict(await rows(engine, sql))
        # Twice: a first run leaves a stretch without rows between two chunks for the next.
        for rollup in (*ROLLUPS, *ROLLUPS):
            await autocommit(engine, "CALL run_job(:job)", job=jobs[rollup.name])

    return run


async def write(engine, deadlines, world, ages):
    """One fact of every kind, at each age in seconds."""
    facts = Facts(
        payments=[payment(world, at=moment(age)) for age in ages],
        api_requests=[request(world, at=moment(age)) for age in ages],
        audit_events=[audit(world, "paused", at=moment(age)) for age in ages],
        queue_events=[queued(world, at=moment(age)) for age in ages],
        balance_samples=[sample(world, 5, 10**9 - int(age), at=moment(age)) for age in ages],
    )
    await FactWriter(engine, deadlines).write(facts)


async def relations(engine, **options):
    found = await status.read(engine, **options)
    return {relation.name: relation for relation in found.relations}


async def autocommit(engine, statement, **values):
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text(statement), values)


async def test_every_relation_of_an_empty_database(engine, edition):
    found = await status.read(engine)
    assert found.edition == edition
    assert [(relation.name, relation.kind) for relation in found.relations] == [
        *((relation.name, "facts") for relation in RELATIONS),
        *((rollup.name, "rollup") for rollup in ROLLUPS),
    ]
    for relation in found.relations:
        assert (relation.rows, relation.rows_are, relation.oldest, relation.newest) == (0, "exact", None, None)
        assert relation.last_failure is None
    assert found.bytes > 0
    assert (found.timescaledb is None) == (edition == "plain")


async def test_facts_equal_a_recomputation(engine, deadlines, world, edition):
    await write(engine, deadlines, world, [5, 50, HOUR, 30 * HOUR, 8 * DAY])
    found = await relations(engine)
    for relation in RELATIONS:
        ((count, oldest, newest),) = await rows(
            engine, f"SELECT count(*), min(ts), max(ts) FROM tollwatch.{relation.name}"
        )
        ((heap, index, parts),) = await rows(engine, TREE, relation=f"tollwatch.{relation.name}")
        told = found[relation.name]
        assert (told.rows, told.oldest, told.newest) == (count, oldest, newest)
        assert (told.partitions, told.columnstore_partitions) == (parts, 0)
        # The parent of hypertables has empty files of its own; they are no partition's.
        assert told.heap_bytes <= heap <= told.heap_bytes + 16384
        assert told.index_bytes <= index <= told.index_bytes + 65536
        assert told.watermark is told.exact_until is told.dirty_buckets is None


async def test_an_estimate_says_so_and_is_near(engine, deadlines, world):
    await write(engine, deadlines, world, [5 + age for age in range(300)])
    for analyzed in (False, True):
        if analyzed:
            await autocommit(engine, "ANALYZE")
        else:
            # PostgreSQL tells its statistics when a session has been idle for a second, or at once when it ends.
            await engine.dispose()
        found = await relations(engine, counted_bytes=0)
        for relation in RELATIONS:
            assert found[relation.name].rows_are == "estimate"
            counted = await rows(engine, f"SELECT count(*) FROM tollwatch.{relation.name}")
            assert counted == [(found[relation.name].rows,)]


async def test_rollups_equal_a_recomputation_also_with_a_dirty_bucket(engine, kind, deadlines, world, refresh):
    await write(engine, deadlines, world, [3 * HOUR, 3 * HOUR + 10, 50 * HOUR])
    await refresh()
    clean = await relations(engine)
    for rollup in ROLLUPS:
        told = clean[rollup.name]
        assert told.dirty_buckets == 0
        sql = f"SELECT count(*), min(bucket), max(bucket) FROM tollwatch.{rollup.name} WHERE bucket < :mark"
        assert await rows(engine, sql, mark=told.watermark) == [(told.rows, told.oldest, told.newest)]
        assert told.rows > 0
        assert datetime.now(UTC) - told.exact_until < timedelta(minutes=1)
    await write(engine, deadlines, world, [26 * HOUR, 26 * HOUR + 10, 27 * HOUR, 60 * HOUR])
    late = await relations(engine)
    for rollup in ROLLUPS:
        told = late[rollup.name]
        starts = {
            rollups.floor(moment(age), rollup.bucket) for age in (26 * HOUR, 26 * HOUR + 10, 27 * HOUR, 60 * HOUR)
        }
        if kind is Edition.COMMUNITY:
            # Its log holds ranges, from the oldest change to the newest that a transaction made in a chunk; that of the
            # days learns of them when the hours are refreshed.
            span = (max(starts) - min(starts)) // rollup.bucket + 1
            assert told.dirty_buckets == 0 if rollup.hourly else len(starts) <= told.dirty_buckets <= span
        else:
            assert told.dirty_buckets == len([start for start in starts if start < told.watermark])
        assert told.exact_until <= min(starts) or rollup.hourly
    await refresh()
    again = await relations(engine)
    assert {told.dirty_buckets for told in again.values() if told.kind == "rollup"} == {0}


async def test_after_retention_dropped_partitions(engine, kind, deadlines, settings, world, refresh):
    await write(engine, deadlines, world, [20 * DAY, 2 * HOUR])
    await refresh()
    before = await relations(engine)
    short = replace(
        settings, rollup_window=timedelta(days=9), late_window=timedelta(days=5), columnstore_after=timedelta(days=9, hours=1),
        retain_samples=timedelta(days=11), retain_requests=timedelta(days=11), retain_queue=timedelta(days=11),
    )  # fmt: skip
    await migrate.upgrade(short, deadlines)
    if kind is Edition.COMMUNITY:
        jobs = await rows(
            engine, "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
        )
        for (job,) in jobs:
            await autocommit(engine, "CALL run_job(:job)", job=job)
    else:
        await retention.expire(engine, kind, short)
    after = await relations(engine)
    for name in ("balance_samples", "api_requests", "queue_events"):
        assert before[name].rows - after[name].rows == 1
        assert after[name].partitions < before[name].partitions
        assert await rows(engine, f"SELECT min(ts), count(*) FROM tollwatch.{name}") == [
            (after[name].oldest, after[name].rows)
        ]
    assert after["payments"].rows == before["payments"].rows


async def test_columnstore_is_counted_and_measured(engine, kind, deadlines, world):
    if kind is not Edition.COMMUNITY:
        await write(engine, deadlines, world, [30 * DAY])
        assert {told.columnstore_bytes for told in (await relations(engine)).values()} == {0}
        return
    await write(engine, deadlines, world, [30 * DAY + age for age in range(50)] + [HOUR])
    await autocommit(
        engine, "SELECT compress_chunk(c) FROM show_chunks('tollwatch.payments', older_than => interval '20 days') c"
    )
    for counted_bytes, kind_of_rows in ((status.COUNTED_BYTES, "exact"), (0, "estimate")):
        await engine.dispose()
        told = (await relations(engine, counted_bytes=counted_bytes))["payments"]
        assert (told.rows, told.rows_are) == (51, kind_of_rows)
    ((oldest, newest),) = await rows(engine, "SELECT min(ts), max(ts) FROM tollwatch.payments")
    ((size, chunks),) = await rows(
        engine,
        "SELECT sum(after_compression_total_bytes)::bigint, count(*) FROM chunk_columnstore_stats('tollwatch.payments')"
        " WHERE compression_status = 'Compressed'",
    )
    assert (told.oldest, told.newest) == (oldest, newest)
    assert told.columnstore_partitions == chunks == 1
    # TimescaleDB's figure is of when the chunk was made; ours is of now, with maps that came later.
    assert 0 < size <= told.columnstore_bytes <= size + 65536


async def test_the_collectors_jobs_tell_how_they_ended(engine, edition):
    now = datetime.now(UTC).replace(microsecond=0)

    def run(job, outcome, ago, failure=None):
        at = now - timedelta(seconds=ago)
        return JobRun(
            job=job, started_at=at, ended_at=at, next_at=at + timedelta(hours=1), outcome=outcome, failure=failure
        )

    for each in (
        run("retention", "ok", 7200),
        run("retention", "failed", 3600, "the disk is full\nhttps://a.example/?api-key=secret" + "x" * 1000),
        run("rollups", "timeout", 60, "no end within 480 s"),
        run("rollups", "ok", 30),
    ):
        await job_runs.record(engine, each)
    found = await status.read(engine)
    jobs = {job.name: job for job in found.jobs if job.runs_in == "collector"}
    assert set(jobs) == {"retention", "rollups"}
    failed = jobs["retention"]
    assert (failed.outcome, failed.succeeded_at, failed.next_at) == ("failed", now - timedelta(hours=2), now)
    assert failed.last_failure.at == now - timedelta(hours=1)
    assert failed.last_failure.message.startswith("the disk is full https://a.example")
    assert "secret" not in failed.last_failure.message
    assert len(failed.last_failure.message) <= job_runs.LONGEST_FAILURE
    recovered = jobs["rollups"]
    assert (recovered.outcome, recovered.succeeded_at) == ("ok", now - timedelta(seconds=30))
    assert recovered.last_failure.message == "no end within 480 s"
    told = {relation.name: relation for relation in found.relations}
    if edition == "community":
        assert told["payments"].last_failure is None, "the collector's jobs do not look after it here"
    else:
        assert (told["payments"].next_job.job, told["payments"].next_job.at) == ("retention", now)
        assert told["payments"].last_failure.job == "retention"
        assert told["payments_hourly"].last_failure.job == "rollups"


async def test_a_native_job_that_fails_is_told(engine, kind):
    if kind is not Edition.COMMUNITY:
        assert not [job for job in (await status.read(engine)).jobs if job.runs_in == "timescaledb"]
        return
    find = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = :proc AND hypertable_name = 'payments'"
    ((job,),) = await rows(engine, find, proc="policy_retention")
    # What TimescaleDB's scheduler writes when a run of it ends in an error; no worker runs on the test servers.
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO _timescaledb_internal.bgw_job_stat_history (job_id, pid, execution_start, execution_finish,"
                " succeeded, data) VALUES (:job, 1, now() - interval '1 minute', now(), false,"
                """ '{"error_data": {"sqlerrcode": "55P03", "message": "canceling statement due to lock timeout"}}')"""
            ),
            {"job": job},
        )
    found = await status.read(engine)
    told = {relation.name: relation for relation in found.relations}["payments"]
    assert (told.last_failure.job, told.last_failure.message) == (
        "retention",
        "canceling statement due to lock timeout",
    )
    assert told.next_job.job in ("columnstore", "retention")
    (mine,) = [job for job in found.jobs if job.relation == "payments" and job.name == "retention"]
    assert mine.last_failure == told.last_failure
    assert {job.name for job in found.jobs} == {"refresh", "columnstore", "retention"}
    assert len(found.jobs) == 2 * len(RELATIONS) + 2 * len(ROLLUPS)


async def test_a_database_without_schema_is_refused(empty_database_url, deadlines):
    engine = create_engine(empty_database_url, deadlines)
    with pytest.raises(SchemaMismatch, match="tollwatch migrate"):
        await status.read(engine)
    await engine.dispose()


async def test_partitions_made_ahead_do_not_hide_the_newest_row(engine, kind, deadlines, settings, world):
    await partitions.ensure_ahead(engine, kind, settings)
    await write(engine, deadlines, world, [10])
    assert (await relations(engine))["payments"].newest is not None
