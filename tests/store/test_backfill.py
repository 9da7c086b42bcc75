"""Backfill: events of any age that retention keeps, once, and no bucket made again but those that they touch."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from cli.main import main
from store import backfill, rollups, totals
from store.edition import Edition
from store.engine import create_engine, reading
from store.facts import Facts
from store.horizons import ROLLUPS
from store.identity import uuid7
from store.settings import Settings
from store.writer import FactWriter
from tests.store.world import make_world, moment, payment, request, rows, sample

DAY = 86400
BUCKETS = "SELECT bucket, sum(payments), sum(amount) FROM tollwatch.payments_hourly GROUP BY 1 ORDER BY 1"
TOTAL = """
SELECT sum(payments), sum(amount) FROM (
  SELECT payments, amount FROM tollwatch.payment_totals UNION ALL
  SELECT payments, amount FROM tollwatch.payments_hourly
  WHERE bucket >= (SELECT folded_until FROM tollwatch.totals_state WHERE relation = 'payments')) parts
"""


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=4)
    yield made
    await made.dispose()


@pytest.fixture
def kind(edition):
    return Edition(edition)


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


@pytest.fixture
def importer(engine, deadlines, kind, settings):
    return backfill.BackfillWriter(engine, deadlines, kind, settings)


async def places(engine, kind):
    """Where every rollup row lies: a row that is made again, even to the same figures, lies elsewhere."""
    found = {}
    for rollup in ROLLUPS:
        table = f"tollwatch_internal.{rollup.name}"
        if kind is Edition.COMMUNITY:
            [(table,)] = await rows(
                engine,
                "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) "
                "FROM timescaledb_information.continuous_aggregates WHERE view_name = :name",
                name=rollup.name,
            )
        for bucket, *place in await rows(engine, f"SELECT bucket, tableoid::text, ctid::text, xmin::text FROM {table}"):
            found.setdefault((rollup.name, bucket), set()).add(tuple(place))
    return found


async def settle(engine, kind, settings, days=11):
    """As the policies of weeks would leave it."""
    now = datetime.now(UTC)
    await rollups.refresh_range(engine, kind, settings, now - timedelta(days=days), now)


async def test_only_touched_buckets_are_made_again(engine, kind, world, importer, settings, deadlines):
    days = (1, 3, 20, 21, 40, 41, 60)
    old = [payment(world, at=moment(day * DAY)) for day in days]
    await importer.write(Facts(payments=old))
    await settle(engine, kind, settings, 70)
    await importer.refresh()
    before = await places(engine, kind)

    touched = [moment(20 * DAY), moment(50 * DAY), moment(60 * DAY + 7200)]
    await importer.write(Facts(payments=[payment(world, at=at, amount=7) for at in touched]))
    assert await importer.refresh() == 3
    after = await places(engine, kind)
    moved = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    made = ("payments", "service_payments")
    hours = {(f"{rollup}_hourly", rollups.floor_hour(at)) for at in touched for rollup in made}
    midnights = {(f"{rollup}_daily", rollups.floor(at, timedelta(days=1))) for at in touched for rollup in made}
    assert moved == hours | midnights


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_backfill_is_in_every_figure_once_however_often_it_is_sent(
    engine, kind, world, importer, settings, deadlines, compressed
):
    live = [payment(world, at=moment(day * DAY)) for day in (0.1, 2, 6)]
    await FactWriter(engine, deadlines).write(Facts(payments=live))
    await importer.write(Facts(payments=[payment(world, at=moment(30 * DAY))]))
    await importer.refresh()
    await settle(engine, kind, settings)
    await totals.fold(engine, kind, settings)
    if compressed and kind is Edition.COMMUNITY:
        async with engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            chunks = await autocommit.execute(
                text("SELECT show_chunks('tollwatch.payments', older_than => INTERVAL '14 days')::text")
            )
            for chunk in chunks.scalars().all():
                await autocommit.execute(text(f"CALL convert_to_columnstore('{chunk}')"))
    batch = Facts(
        payments=[payment(world, at=moment(day * DAY), amount=5) for day in (30, 100, 0.2)],
        api_requests=[request(world, at=moment(50 * DAY), latency_ms=None), request(world, at=moment(51 * DAY))],
        balance_samples=[sample(world, 5, 100, at=moment(52 * DAY))],
    )
    assert (await importer.write(batch)).total == 6
    for _ in range(2):
        # Before and after the refresh: what is folded is in the base at once.
        assert await rows(engine, TOTAL) in ([(7, 4015)], [(6, 4010)])
        await importer.refresh()
        await settle(engine, kind, settings)
    for _ in range(2):
        assert await rows(engine, TOTAL) == [(7, 4015)]
        assert await rows(engine, "SELECT sum(events) FROM tollwatch.audit_totals") == [(1,)]
        assert await rows(engine, "SELECT sum(requests) FROM tollwatch.latency_totals") == [(1,)]
        assert sum(row[1] for row in await rows(engine, BUCKETS)) == 7
        assert (await importer.write(batch)).total == 0
        await importer.refresh()
        await totals.fold(engine, kind, settings)


async def test_exact_until_names_a_backfilled_hour_until_it_is_refreshed(
    engine, kind, world, importer, settings, deadlines
):
    await FactWriter(engine, deadlines).write(Facts(payments=[payment(world, at=moment(3 * 3600))]))
    await settle(engine, kind, settings)
    at = moment(33 * DAY)

    async def exact(rollup):
        async with reading(engine) as connection:
            return await rollups.exact_until(connection, kind, rollup)

    await importer.write(Facts(payments=[payment(world, at=at)]))
    assert await exact("payments_hourly") == rollups.floor_hour(at)
    assert await exact("payments_daily") == rollups.floor(at, timedelta(days=1))
    folded = "SELECT folded_until FROM tollwatch.totals_state WHERE relation = 'payments'"
    before = await rows(engine, folded)
    await totals.fold(engine, kind, settings)
    assert await rows(engine, folded) == before or (await rows(engine, folded))[0][0] <= rollups.floor_hour(at)
    # Killed here; the collector's next run does the rest.
    await rollups.refresh(engine, kind, settings)
    for rollup in ("payments_hourly", "payments_daily"):
        assert await exact(rollup) > moment(300)


async def test_a_backfill_waits_for_a_fold_and_a_fold_for_it(engine, kind, world, importer, settings):
    await importer.write(Facts(payments=[payment(world, at=moment(30 * DAY))]))
    await importer.refresh()
    async with engine.begin() as connection:
        await connection.execute(text("SELECT FROM tollwatch.totals_state FOR UPDATE"))
        importing = asyncio.create_task(importer.write(Facts(payments=[payment(world, at=moment(8 * DAY))])))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while await rows(engine, waits) == [(0,)]:  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.01)
        await connection.execute(
            text("UPDATE tollwatch.totals_state SET folded_until = :at WHERE relation = 'payments'"),
            {"at": rollups.floor_hour(moment(5 * DAY))},
        )
    await importing
    assert await rows(engine, "SELECT sum(payments) FROM tollwatch.payment_totals") == [(2,)]


# The command.


def event(world, days, **more):
    at = moment(days * DAY)
    values = {
        "type": "payment",
        "id": str(uuid7(at)),
        "agent": "agent-0",
        "payment_id": str(UUID(int=int(days * 1000), version=4)),
        "status": "settled",
        "amount": "5",
        "asset": "USDC",
        "service": "http://market",
    }
    return values | more


@pytest.fixture
def clean(monkeypatch, database_url):
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", database_url)


def test_the_command_counts_every_line(clean, database_url, deadlines, tmp_path, capsys, monkeypatch):
    async def begin():
        engine = create_engine(database_url, deadlines, pool_size=1)
        world = await make_world(engine)
        await engine.dispose()
        return world

    world = asyncio.run(begin())
    good = [event(world, days) for days in (0.5, 8, 30, 200)]
    bad = [event(world, 399.5), event(world, 3, agent="nobody"), event(world, 3, amount="-1")]
    lines = [json.dumps(one) for one in [*good, good[1], *bad]] + ["", "{", "x" * 1_100_000]
    file = tmp_path / "old.ndjson"
    file.write_text("\n".join(lines))
    assert main(["backfill", str(file), "--project", "acme"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith(
        "accepted 4, duplicates 1, rejected 5 (invalid_amount 1, malformed 2, too_late 1, unknown_agent 1); "
    )
    assert [line.split(": ")[:2] for line in told.err.splitlines()] == [
        ["line 11", "malformed"],
        ["line 6", "too_late"],
        ["line 7", "unknown_agent"],
        ["line 8", "invalid_amount"],
        ["line 10", "malformed"],
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines[:4]).encode())))
    assert main(["backfill", "-", "--project", "acme"]) == 0
    assert capsys.readouterr().out == "accepted 0, duplicates 4, rejected 0; 0 hours made again\n"

    async def stored():
        engine = create_engine(database_url, deadlines, pool_size=1)
        found = await rows(engine, "SELECT origin, count(*) FROM tollwatch.payments GROUP BY 1")
        await engine.dispose()
        return found

    assert asyncio.run(stored()) == [("import", 4)]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["backfill", "no-such-file", "--project", "acme"], "no-such-file cannot be read (No such file or directory)"),
        (["backfill", "/dev/null", "--project", "nobody"], "there is no project 'nobody'"),
    ],
)
def test_refusals_are_one_line(clean, argv, said, capsys):
    assert main(argv) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"tollwatch: {said}")
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_a_settings_default_leaves_room_for_a_backfill():
    now = datetime.now(UTC)
    for relation in ("payments", "api_requests", "audit_events", "queue_events", "balance_samples"):
        assert backfill.oldest_kept(relation, now, Settings()) < now - Settings().rollup_window
