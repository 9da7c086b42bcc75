"""What the planner expects of a rollup of our own is near what is there, so that a panel of many hours reads it in one go."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from store.engine import create_engine
from store.facts import Facts
from store.writer import FactWriter
from tests.store.world import make_world, moment, payment, rows, sample

pytestmark = pytest.mark.editions("plain", "apache")  # the other has continuous aggregates
DAYS, AGENTS, FACTS = 30, 20, 5000
BUCKETS = f"""
INSERT INTO tollwatch_internal.payments_hourly
SELECT bucket, :project_id, agent, :asset_id, 'weather', 'settled', 'agent', 1, 0, 1000, 0, 0, 0
FROM generate_series(date_trunc('hour', now()) - INTERVAL '{DAYS} days', now() - INTERVAL '3 hours', '1 hour') AS bucket,
  generate_series(1, {AGENTS}) AS agent
"""
COPIES = """
INSERT INTO tollwatch.{relation}
SELECT (jsonb_populate_record(r, other)).*
FROM tollwatch.{relation} r, generate_series(1, :copies) AS n,
  jsonb_build_object('id', gen_random_uuid(), 'ts', r.ts + make_interval(secs => n), 'wallet_id', n) AS other
"""
WATERMARK = "UPDATE tollwatch_internal.rollup_state SET watermark = date_trunc('hour', now())"


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=1)
    world = await make_world(made)
    await FactWriter(made, deadlines).write(
        Facts(payments=[payment(world, at=moment(7200))], balance_samples=[sample(world, 7, 1, at=moment(7200))])
    )
    async with made.begin() as connection:
        values = {"project_id": world.project_id, "asset_id": world.assets["USDC"]}
        await connection.execute(text(BUCKETS), values)
        for relation in ("payments", "balance_samples"):
            await connection.execute(text(COPIES.format(relation=relation)), {"copies": FACTS})
        await connection.execute(text(WATERMARK))
        await connection.execute(
            text("ANALYZE tollwatch_internal.payments_hourly, tollwatch.payments, tollwatch.balance_samples")
        )
    yield made
    await made.dispose()


async def plan(engine, view, days):
    now = datetime.now(UTC)
    sql = f"EXPLAIN (FORMAT JSON) SELECT * FROM tollwatch.{view} WHERE bucket >= :from_ts AND bucket < :to_ts"
    ((found,),) = await rows(engine, sql, from_ts=now - timedelta(days=days), to_ts=now)
    return list(nodes(found[0]["Plan"]))


def nodes(node):
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("days", [30, 7])
async def test_the_rows_below_the_watermark_are_expected(engine, days):
    (scan,) = [
        node for node in await plan(engine, "payments_hourly", days) if node.get("Relation Name") == "payments_hourly"
    ]
    there = days * 24 * AGENTS
    assert there / 4 < scan["Plan Rows"] <= there * 1.1


@pytest.mark.parametrize("view", ["payments_hourly", "payments_daily"])
async def test_the_live_tail_is_looked_up_by_time(engine, view):
    large = await rows(engine, "SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > 1000")
    found = await plan(engine, view, DAYS)
    scans = {node["Relation Name"]: node["Node Type"] for node in found if (node.get("Relation Name"),) in large}
    facts = {name: kind for name, kind in scans.items() if name != "payments_hourly"}
    assert facts
    assert not {name: kind for name, kind in facts.items() if kind == "Seq Scan"}


@pytest.mark.parametrize("view", ["balances_hourly", "balances_daily"])
async def test_the_newest_samples_are_found_by_time(engine, view):
    """Their key is by wallet: all of a day's samples would be walked."""
    found = await plan(engine, view, DAYS)
    assert [node["Index Name"] for node in found if re.search("balance_samples.*_ts_idx", node.get("Index Name", ""))]
