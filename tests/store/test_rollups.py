"""Rollups equal what raw rows add up to, whatever arrives when; retention and folding change no figure."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text

from store import migrate, partitions, retention, rollups, totals
from store.edition import Edition
from store.engine import create_engine, reading
from store.facts import Facts
from store.identity import EPOCH
from store.writer import FactWriter
from tests.store.world import make_world, moment, payment, request, rows, sample

HOUR = 3600
PAYMENTS = """
SELECT bucket, agent_id, asset_id, service, status, origin, payments, duplicates, amount, retries
FROM tollwatch.payments_hourly ORDER BY 1, 2, 3, 4, 5, 6
"""
PAYMENTS_RAW = """
SELECT date_bin('1 hour', ts, '2000-01-01 00:00+00'), agent_id, asset_id, service, status, origin,
  count(*) FILTER (WHERE NOT is_duplicate), count(*) FILTER (WHERE is_duplicate),
  coalesce(sum(amount) FILTER (WHERE NOT is_duplicate), 0), coalesce(sum(retry_count) FILTER (WHERE NOT is_duplicate), 0)
FROM tollwatch.payments GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, replace(deadlines, read_statement=30), pool_size=6)
    yield made
    await made.dispose()


@pytest.fixture
def kind(edition):
    return Edition(edition)


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


@pytest.fixture
def writer(engine, deadlines):
    return FactWriter(engine, deadlines)


@pytest.fixture
def refresh(engine, kind, settings):
    async def run():
        now = datetime.now(UTC)
        await rollups.refresh_range(engine, kind, settings, now - settings.rollup_window, now)

    return run


async def exact_until(engine, kind, *names):
    async with reading(engine) as connection:
        return await rollups.exact_until(connection, kind, *(names or ("payments_hourly",)))


def some_payments(world, rng, count, hours):
    made = []
    for _ in range(count):
        at = moment(rng.uniform(1, hours * HOUR))
        made.append(
            payment(
                world,
                at=at,
                amount=rng.randrange(10**9),
                agent=rng.randrange(2),
                status=rng.choice(["pending", "settled", "failed"]),
                service=rng.choice(["http://a", "http://b"]),
                asset_id=world.assets[rng.choice(["USDC", "CASH"])],
                retry_count=rng.randrange(4),
            )
        )
    return made


async def test_rollups_equal_the_raw_rows_before_and_after_refreshes_and_late_rows(engine, world, writer, refresh):
    rng = random.Random(7)
    for _ in range(5):
        batch = some_payments(world, rng, 60, 40)
        repeats = [payment(world, payment_id=one.payment_id, status=one.status) for one in batch[:5]]
        await writer.write(Facts(payments=batch + repeats))
        await refresh()
        assert await rows(engine, PAYMENTS) == await rows(engine, PAYMENTS_RAW)


async def test_the_live_tail_is_exact_at_once(engine, kind, world, writer, refresh):
    await refresh()
    await writer.write(Facts(payments=[payment(world, amount=5, at=moment(2))]))
    assert [row[8] for row in await rows(engine, PAYMENTS)] == [5]
    assert await exact_until(engine, kind) > moment(30)


async def test_exact_until_names_the_hour_of_a_pending_late_row(engine, kind, world, writer, refresh):
    await writer.write(Facts(payments=some_payments(world, random.Random(1), 50, 20)))
    await refresh()
    assert await exact_until(engine, kind) > moment(30)
    late = payment(world, at=moment(10 * HOUR), amount=77)
    await writer.write(Facts(payments=[late]))
    assert await exact_until(engine, kind) == rollups.floor_hour(late.ts)
    assert await exact_until(engine, kind, "requests_hourly", "service_payments_hourly") == rollups.floor_hour(late.ts)
    assert await exact_until(engine, kind, "requests_hourly", "service_requests_hourly") > moment(30)
    await refresh()
    assert await exact_until(engine, kind) > moment(30)
    assert await rows(engine, PAYMENTS) == await rows(engine, PAYMENTS_RAW)


async def test_an_insert_in_flight_during_a_refresh_is_not_lost(engine, world, writer, refresh):
    await writer.write(Facts(payments=some_payments(world, random.Random(2), 50, 20)))
    await refresh()
    async with engine.connect() as connection:
        await connection.execute(
            text(
                "INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, agent_id, status, amount, asset_id, service, "
                "retry_count, backoff_ms, is_duplicate, origin) VALUES "
                "(:project, :ts, :id, :id, :agent, 'settled', 123456789, :asset, 'late', 0, 0, false, 'agent')"
            ),
            {
                "project": world.project_id,
                "ts": moment(5 * HOUR),
                "id": uuid4(),
                "agent": world.agent_ids[0],
                "asset": world.assets["USDC"],
            },
        )
        await refresh()
        await connection.commit()
    await refresh()
    assert await rows(engine, PAYMENTS) == await rows(engine, PAYMENTS_RAW)


async def test_a_row_of_the_hour_that_the_watermark_crosses_is_never_hidden(
    engine, kind, world, writer, settings, refresh
):
    """Where rollups are ours. TimescaleDB materialises an hour and moves its watermark without holding writers off."""
    if not kind.has_own_rollups:
        return
    async with engine.begin() as connection:
        back = (
            "UPDATE tollwatch_internal.rollup_state SET watermark = watermark - INTERVAL '2 hours' RETURNING watermark"
        )
        watermark = (await connection.execute(text(back))).first().watermark
    await writer.write(Facts(payments=[payment(world, amount=1, at=watermark + timedelta(minutes=5))]))
    amount = "SELECT sum(amount) FROM tollwatch.payments_hourly"
    reached = "SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'payments'"
    late = payment(world, amount=10, at=watermark + timedelta(minutes=10))
    held = (
        "INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, agent_id, status, amount, asset_id, service, "
        "retry_count, backoff_ms, is_duplicate, origin) VALUES "
        "(:project_id, :ts, :id, :payment_id, :agent_id, 'settled', 10, :asset_id, 'a', 0, 0, false, 'agent')"
    )
    async with engine.connect() as connection:
        await connection.execute(text(held), msgspec.structs.asdict(late))
        await rollups.refresh(engine, kind, settings)
        assert await rows(engine, reached) == [(watermark,)]  # a writer is in that hour
        assert await rows(engine, amount) == [(1,)]
        await connection.commit()
    assert await rows(engine, amount) == [(11,)]
    await rollups.refresh(engine, kind, settings)
    assert (await rows(engine, reached))[0][0] > watermark
    assert await rows(engine, amount) == [(11,)]


async def test_writers_and_refreshes_at_once_end_exact(engine, world, writer, refresh):
    stop = asyncio.Event()

    async def write(seed):
        rng = random.Random(seed)
        for _ in range(12):
            await writer.write(Facts(payments=some_payments(world, rng, 20, 30)))

    async def work():
        while not stop.is_set():
            await refresh()

    worker = asyncio.create_task(work())
    await asyncio.gather(write(1), write(2))
    stop.set()
    await worker
    await refresh()
    assert await rows(engine, PAYMENTS) == await rows(engine, PAYMENTS_RAW)


async def test_requests_hourly_equals_a_recomputation(engine, world, writer, refresh):
    rng = random.Random(3)
    made = [
        request(
            world,
            at=moment(rng.uniform(1, 30 * HOUR)),
            agent=rng.randrange(2),
            attempt=rng.randrange(1, 5),
            outcome=rng.choice(["ok", "failed", "retrying"]),
            latency_ms=rng.choice([None, rng.randrange(10_000)]),
            paid=rng.random() < 0.5,
            response_bytes=rng.randrange(1000),
        )
        for _ in range(300)
    ]
    expected = defaultdict(lambda: [0, 0, 0, 0, None, 0])
    for one in made:
        line = expected[rollups.floor_hour(one.ts), one.agent_id, one.outcome]
        line[0] += 1
        line[1] += one.attempt > 1
        line[2] += one.paid
        line[3] += one.latency_ms or 0
        line[4] = max((x for x in (line[4], one.latency_ms) if x is not None), default=None)
        line[5] += one.response_bytes
    await writer.write(Facts(api_requests=made[:150]))
    await refresh()
    await writer.write(Facts(api_requests=made[150:]))
    await refresh()
    found = await rows(
        engine,
        "SELECT bucket, agent_id, outcome, requests, retries, paid, latency_ms_sum, latency_ms_max, response_bytes_sum "
        "FROM tollwatch.requests_hourly",
    )
    assert {row[:3]: list(row[3:]) for row in found} == dict(expected)


async def test_balances_hourly_goes_by_slot(engine, world, writer, refresh):
    base = rollups.floor_hour(moment(5 * HOUR))
    line = [
        (0, 100, 10),
        (10, 300, 30),
        (20, 50, 20),
    ]  # seconds, amount, slot: the last by clock is not the last by slot
    await writer.write(
        Facts(balance_samples=[sample(world, amount, slot, at=base + timedelta(seconds=s)) for s, amount, slot in line])
    )
    for _ in range(2):
        await refresh()
        assert await rows(
            engine, "SELECT bucket, samples, amount_min, amount_max, first, last FROM tollwatch.balances_hourly"
        ) == [(base, 3, 50, 300, [10, 100], [30, 300])]


async def test_retention_drops_facts_and_no_rollup(engine, kind, world, writer, settings, deadlines, refresh):
    if kind is Edition.PLAIN:
        await partitions.ensure(engine, "payments", moment(120 * 86400), moment(0))
    old = [payment(world, at=moment(days * 86400), amount=days) for days in (60, 70, 85, 100)]
    await writer.write(Facts(payments=[*old, payment(world, amount=1)]))
    now = datetime.now(UTC)
    await rollups.refresh_range(engine, kind, settings, now - timedelta(days=130), now)
    before = await rows(engine, PAYMENTS)
    assert len(before) == 5

    short = replace(settings, retain_payments=timedelta(days=75))
    await migrate.upgrade(short, deadlines)
    if kind is Edition.COMMUNITY:
        [(job,)] = await rows(
            engine,
            "SELECT job_id FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_retention' AND hypertable_name = 'payments'",
        )
        async with engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.execute(text("CALL run_job(:job)"), {"job": job})
    else:
        assert await retention.expire(engine, kind, short) >= 1
    assert [row[0] for row in await rows(engine, "SELECT amount FROM tollwatch.payments ORDER BY ts")] == [70, 60, 1]
    assert await rows(engine, PAYMENTS) == before
    await refresh()
    assert await rows(engine, PAYMENTS) == before


async def test_a_detach_that_was_interrupted_is_finished(engine, kind, world, writer, settings):
    if kind is not Edition.PLAIN:
        return
    await writer.write(Facts(payments=[payment(world, at=moment(500 * 86400))]))
    [(name, _)] = list(
        await rows(
            engine,
            "SELECT c.relname, 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'tollwatch.payments'::regclass ORDER BY 1 LIMIT 1",
        )
    )
    async with engine.begin() as connection:
        await connection.execute(text(f"ALTER TABLE tollwatch.payments DETACH PARTITION tollwatch_internal.{name}"))
    assert await retention.expire(engine, kind, settings) == 1
    assert await rows(engine, "SELECT to_regclass(:name)", name=f"tollwatch_internal.{name}") == [(None,)]


TOTALS = """
SELECT coalesce((SELECT sum(payments) FROM tollwatch.payment_totals), 0) + coalesce((
  SELECT sum(payments) FROM tollwatch.payments_hourly
  WHERE bucket >= (SELECT folded_until FROM tollwatch.totals_state WHERE relation = 'payments')), 0)
"""


async def test_folding_moves_no_total(engine, kind, world, writer, settings, refresh):
    old = [payment(world, at=moment(days * 86400)) for days in (3, 10.5, 12, 13)]
    await writer.write(Facts(payments=old))
    await rollups.refresh_range(engine, kind, settings, moment(20 * 86400), datetime.now(UTC))
    for _ in range(3):
        assert await rows(engine, TOTALS) == [(4,)]
        await totals.fold(engine, kind, settings)
    assert await rows(engine, "SELECT sum(payments) FROM tollwatch.payment_totals") == [(2,)]
    [(until,)] = await rows(engine, "SELECT folded_until FROM tollwatch.totals_state WHERE relation = 'payments'")
    assert EPOCH < until <= moment(settings.rollup_window.total_seconds())


async def test_partitions_are_made_ahead_once(engine, kind, settings):
    made = await partitions.ensure_ahead(engine, kind, replace(settings, partitions_ahead=timedelta(days=30)))
    assert (made > 0) is (kind is Edition.PLAIN)
    assert await partitions.ensure_ahead(engine, kind, replace(settings, partitions_ahead=timedelta(days=30))) == 0


async def test_a_days_latency_quantiles_are_within_two_percent(engine, world, writer, refresh):
    rng = random.Random(11)
    latencies = [max(1, round(rng.lognormvariate(5, 1.2))) for _ in range(6000)]
    yesterday = rollups.floor(moment(86400), timedelta(days=1))
    made = [
        request(world, at=yesterday + timedelta(seconds=rng.randrange(86400)), latency_ms=ms, service=rng.choice("ab"))
        for ms in latencies
    ]
    await writer.write(Facts(api_requests=made))
    await refresh()
    exact = sorted(latencies)
    for quantile in (0.5, 0.9, 0.95, 0.99):
        for rollup in ("request_latency_hourly", "request_latency_daily"):
            [(found,)] = await rows(
                engine,
                "SELECT tollwatch_read.latency_quantile(:quantile, array_agg(latency_bucket), array_agg(requests)) "
                f"FROM tollwatch.{rollup}",
                quantile=quantile,
            )
            assert found == pytest.approx(exact[int(quantile * len(exact))], rel=0.02)


async def test_a_request_that_took_no_time_is_counted_on_columnstore_as_on_rows(engine, kind, world, writer, refresh):
    """TimescaleDB computes every branch of a CASE for every row there, and the logarithm of nought is an error."""
    taken = {None: 0, 0: -1, 1: 0, 7: 16}
    made = [request(world, at=moment(day * 86400), latency_ms=ms) for day in range(1, 5) for ms in taken]
    await writer.write(Facts(api_requests=made))
    if kind is Edition.COMMUNITY:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT compress_chunk(c) FROM show_chunks('tollwatch.api_requests') c"))
    else:
        await refresh()
    asked = "SELECT bucket, agent_id, service, latency_bucket, requests FROM tollwatch.request_latency_hourly"
    expected = Counter({bucket: 4 for ms, bucket in taken.items() if ms is not None})
    assert Counter(row[3] for row in await rows(engine, asked)) == expected
    await refresh()
    assert Counter(row[3] for row in await rows(engine, asked)) == expected
