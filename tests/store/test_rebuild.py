"""What is derived can be made again from the facts, and is then what it was; pruning bounds heads and forgets nothing."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from cli.main import main
from store import backfill, heads, horizons, rollups, totals
from store.edition import Edition
from store.engine import create_engine
from store.errors import RebuildRefused
from store.facts import Facts
from store.horizons import DAY, HOUR
from store.writer import FactWriter
from tests.store.test_backfill import TOTAL, settle
from tests.store.world import audit, make_world, moment, payment, queued, request, rows, sample

DAY_S = 86400
TABLES = {
    "payment_heads": "UPDATE tollwatch.payment_heads SET told = 0, status = 'pending', rank = 11",
    "payment_settlements": "DELETE FROM tollwatch.payment_settlements",
    "balance_heads": "UPDATE tollwatch.balance_heads SET amount = 1",
    "breaker_heads": "UPDATE tollwatch.breaker_heads SET state = 'half_open'",
    "queue_heads": "DELETE FROM tollwatch.queue_heads",
}


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=5)
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


def some(world, number=8):
    return Facts(
        payments=[
            payment(world, at=moment(i * 4000 + 60), signature=bytes([i]) * 64, retry_count=i % 2)
            for i in range(number)
        ],
        api_requests=[request(world, at=moment(i * 4000 + 60), latency_ms=i) for i in range(number)],
        audit_events=[audit(world, "breaker_opened", component=f"c{i}") for i in range(number)],
        queue_events=[queued(world) for _ in range(number)],
        balance_samples=[sample(world, 20_000 + i, i, at=moment(60 + i)) for i in range(number)],
    )


async def all_heads(engine):
    return {table: sorted(await rows(engine, f"SELECT * FROM tollwatch.{table}"), key=repr) for table in TABLES}


async def break_(engine, statement):
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def test_heads_come_back_as_they_were(engine, settings, world, writer):
    await writer.write(some(world))
    before = await all_heads(engine)
    for statement in TABLES.values():
        await break_(engine, statement)
    phantom = f"INSERT INTO tollwatch.queue_heads (project_id, agent_id, request_id, state, ts) VALUES ({world.project_id}, 1, '{uuid4()}', 'queued', now())"
    await break_(engine, phantom)
    done = await heads.rebuild(engine, settings)
    assert {one.head: one.mended for one in done} == {
        "payment_heads": 8,
        "payment_settlements": 8,
        "balance_heads": 1,
        "breaker_heads": 8,
        "queue_heads": 9,
    }
    assert await all_heads(engine) == before
    assert [one.mended for one in await heads.rebuild(engine, settings)] == [0] * 5


async def test_heads_are_rebuilt_beside_live_writers(engine, settings, world, writer, deadlines):
    known = [uuid4() for _ in range(40)]
    stop = asyncio.Event()

    async def write(seed):
        rng = random.Random(seed)
        while not stop.is_set():
            batch = [
                payment(world, payment_id=rng.choice(known), status=rng.choice(["pending", "settled"]))
                for _ in range(9)
            ]
            await writer.write(Facts(payments=batch))

    async def disturb():
        for _ in range(3):
            await break_(
                engine,
                "UPDATE tollwatch.payment_heads SET amount = 5, opened_ts = now() WHERE ctid IN "
                "(SELECT ctid FROM tollwatch.payment_heads WHERE told > 2 FOR UPDATE SKIP LOCKED)",
            )
            await heads.rebuild(engine, settings)
        stop.set()

    await asyncio.gather(write(1), write(2), disturb())
    await heads.rebuild(engine, settings)
    assert [one.mended for one in await heads.rebuild(engine, settings)] == [0] * 5
    assert await rows(
        engine,
        "SELECT count(*) FROM tollwatch.payment_heads h WHERE told <> (SELECT bit_or(tollwatch.payment_bit(status)) "
        "FROM tollwatch.payments p WHERE p.payment_id = h.payment_id)",
    ) == [(0,)]


async def test_rollups_come_back_as_they_were(engine, kind, settings, world, writer, deadlines):
    importer = backfill.BackfillWriter(engine, deadlines, kind, settings)
    await writer.write(some(world))
    await importer.write(Facts(payments=[payment(world, at=moment(30 * DAY_S))]))
    await importer.refresh()
    await settle(engine, kind, settings)
    figures = "SELECT bucket, agent_id, status, payments, amount FROM tollwatch.payments_{} ORDER BY 1, 2, 3"
    before = [await rows(engine, figures.format(width)) for width in ("hourly", "daily")]
    if kind is not Edition.COMMUNITY:  # a materialisation cannot be written to from outside
        await break_(engine, "UPDATE tollwatch_internal.payments_hourly SET payments = payments + 1")
        await break_(engine, "DELETE FROM tollwatch_internal.payments_daily")
    assert await rollups.rebuild(engine, kind, settings) >= 9
    assert [await rows(engine, figures.format(width)) for width in ("hourly", "daily")] == before


async def test_totals_come_back_as_they_were_or_are_left(engine, kind, settings, world, writer, deadlines):
    importer = backfill.BackfillWriter(engine, deadlines, kind, settings)
    old = [payment(world, at=moment(day * DAY_S)) for day in (30, 31, 32)]
    await importer.write(Facts(payments=old, api_requests=[request(world, at=moment(30 * DAY_S))]))
    await importer.refresh()
    await settle(engine, kind, settings)
    await writer.write(some(world))
    await totals.fold(engine, kind, settings)
    [before] = await rows(engine, TOTAL)
    assert await totals.rebuild(engine, kind, settings) == 0
    await break_(engine, "UPDATE tollwatch.payment_totals SET payments = payments + 5")
    await break_(engine, "DELETE FROM tollwatch.latency_totals")
    assert await totals.rebuild(engine, kind, settings) == 2
    assert await rows(engine, TOTAL) == [before]
    with pytest.raises(RebuildRefused, match="hold what the rollups no longer do"):
        await totals.rebuild(engine, kind, replace(settings, retain_rollups=300 * DAY))
    assert await rows(engine, TOTAL) == [before]


async def test_final_heads_go_with_their_facts_and_open_ones_stay(engine, kind, settings, world, deadlines):
    importer = backfill.BackfillWriter(engine, deadlines, kind, settings)
    ages = (300, 100, 1)
    facts = Facts(
        payments=[payment(world, at=moment(age * DAY_S), signature=bytes([age % 251]) * 64) for age in ages]
        + [payment(world, at=moment(300 * DAY_S), status="unknown")],
        queue_events=[
            queued(world, at=moment(age * DAY_S), state=state) for age in (80, 1) for state in ("queued", "dropped")
        ],
    )
    await importer.write(facts)
    short = replace(settings, retain_payments=200 * DAY, retain_queue=50 * DAY)
    assert await heads.prune(engine, kind, settings) == 0
    assert await heads.prune(engine, kind, short) == 3
    assert await rows(engine, "SELECT status, count(*) FROM tollwatch.payment_heads GROUP BY 1 ORDER BY 1") == [
        ("settled", 2),
        ("unknown", 1),
    ]
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payment_settlements") == [(2,)]
    assert await rows(engine, "SELECT state, count(*) FROM tollwatch.queue_heads GROUP BY 1 ORDER BY 1") == [
        ("dropped", 1),
        ("queued", 2),
    ]
    # Not for ever: an open one that nobody spoke of for as long as rollups are kept.
    assert await heads.prune(engine, kind, replace(short, retain_rollups=250 * DAY)) == 1
    # What went cannot come back: a backfill refuses what is as old as that.
    assert backfill.oldest_kept("payments", datetime.now(UTC), short) > moment(300 * DAY_S)


async def test_pruning_goes_on_where_it_stopped(engine, kind, settings, world, monkeypatch, deadlines):
    importer = backfill.BackfillWriter(engine, deadlines, kind, settings)
    monkeypatch.setattr(heads, "PRUNED_BLOCKS", 1)
    await importer.write(Facts(payments=[payment(world, at=moment(300 * DAY_S)) for _ in range(200)]))
    short = replace(settings, retain_payments=200 * DAY)
    pruned = [await heads.prune(engine, kind, short) for _ in range(40)]
    assert (sum(pruned), 0 < max(pruned) < 150) == (200, True)


def test_no_row_that_ingest_takes_can_miss_a_fold(settings):
    """A row accepted at the last moment, and spooled for as long as may be, is still above the fold horizon."""
    for late in (HOUR, 7 * DAY):
        tight = late + settings.spool_max_age + 2 * DAY + settings.rollup_interval
        edge = replace(settings, late_window=late, rollup_window=tight, columnstore_after=tight + HOUR)
        horizons.check(edge)
        stored = datetime.now(UTC)
        oldest = stored - edge.spool_max_age - edge.late_window
        assert rollups.floor_hour(oldest) - rollups.floor_hour(stored - edge.rollup_window) >= timedelta(days=2)
        with pytest.raises(horizons.HorizonError):
            horizons.check(replace(edge, rollup_window=tight - timedelta(seconds=1)))


# The command.


def test_the_command_says_what_it_did(database_url, monkeypatch, capsys):
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", database_url)
    assert main(["db", "rebuild", "heads", "totals"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "totals: 0 rows were not what the rollups add up to, and are now",
        *(f"{table}: 0 heads, 0 were not what their facts say, and are now" for table in TABLES),
    ]
    assert main(["db", "rebuild", "rollups"]) == 0
    assert capsys.readouterr().out.endswith(" hours made again, and their days\n")
    monkeypatch.setenv("TOLLWATCH_RETAIN_ROLLUPS", "400d")
    assert main(["migrate"]) == 0
    capsys.readouterr()
    assert main(["db", "rebuild", "totals"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("tollwatch: The totals hold what the rollups no longer do")


def test_nothing_else_can_be_rebuilt(capsys):
    with pytest.raises(SystemExit):
        main(["db", "rebuild", "facts"])
    assert "'facts' is none of rollups, totals, heads" in capsys.readouterr().err
