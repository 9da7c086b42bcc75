"""Readers: what a page costs, on every edition, and how positions and values are made."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import text

from store import rollups
from store.edition import Edition
from store.engine import create_engine, reading
from store.errors import InvalidValue, NotFound
from store.readers import listings, listings_buckets, names, trail
from store.readers.listings import Asked, read_page, read_parts
from store.readers.positions import AgentPosition, FactPosition, PaymentsBucketPosition, SamplePosition, Window
from tests.store.world import make_world

ROWS = 20_000


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=2, statement=30)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


@pytest_asyncio.fixture
async def much(engine, world, settings, edition):
    """A week of payments and samples, one per half minute, rolled up."""
    values = {"project": world.project_id, "agent": world.agent_ids[0], "wallet": world.wallet_ids[0], "rows": ROWS}
    values["asset"] = world.assets["USDC"]
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, agent_id, status, amount, asset_id,"
                " service, retry_count, backoff_ms, is_duplicate, origin)"
                " SELECT :project, date_trunc('milliseconds', now() - i * interval '30 seconds'), gen_random_uuid(),"
                " gen_random_uuid(), :agent, (ARRAY['pending', 'settled'])[1 + i % 2], i, :asset, 'http://' || i % 5, 0, 0,"
                " false, 'agent' FROM generate_series(1, CAST(:rows AS int)) i"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO tollwatch.balance_samples (project_id, wallet_id, asset_id, ts, agent_id, amount, slot,"
                " commitment, status, origin)"
                " SELECT :project, :wallet, :asset, date_trunc('milliseconds', now() - i * interval '30 seconds'), :agent,"
                " i, i, 'confirmed', 'low', 'collector' FROM generate_series(1, CAST(:rows AS int)) i"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO tollwatch.balance_heads SELECT project_id, wallet_id, asset_id, agent_id, ts, amount, slot,"
                " commitment, NULL, status, NULL FROM tollwatch.balance_samples ORDER BY slot LIMIT 1"
            )
        )
    now = datetime.now(UTC)
    await rollups.refresh_range(engine, Edition(edition), settings, now - timedelta(days=8), now)
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    return Window(now - timedelta(days=7), now + timedelta(minutes=5))


async def plan(engine, world, listing, window, position, **filters):
    """The plan of one page of 100 rows, as executed."""
    parameters = {
        **dict.fromkeys(listing.filters),
        **filters,
        **msgspec.structs.asdict(position),
        **msgspec.structs.asdict(window),
        "project_id": world.project_id,
        "limit": 101,
    }
    asked = Asked(project_id=world.project_id, window=window, position=position, limit=100, filters=filters)
    async with reading(engine) as connection:
        explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) "
        return list((await connection.execute(text(explain + listing.statement_for(asked)), parameters)).scalars())


def pages_read(lines):
    """Blocks that a plan touched, all its nodes included."""
    first = next(line for line in lines if "Buffers:" in line)
    return sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", first))


async def test_a_page_of_payments_costs_the_same_at_any_depth(engine, world, much):
    for days_deep in (0, 3, 6):
        position = FactPosition(much.to_ts - timedelta(days=days_deep), UUID(int=2**127))
        lines = await plan(engine, world, listings.PAYMENTS, much, position)
        assert any("Index Scan" in line and "pkey" in line for line in lines)
        assert pages_read(lines) < 60, "\n".join(lines)


async def test_what_went_wrong_for_an_agent_is_found_among_all_that_went_well(engine, world, much):
    asked = {"project": world.project_id, "agent": world.agent_ids[1], "asset": world.assets["USDC"]}
    async with engine.begin() as connection:
        # Two at each time, so that pages end between them; over all partitions.
        await connection.execute(
            text(
                "INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, agent_id, status, amount, asset_id,"
                " service, retry_count, backoff_ms, is_duplicate, origin)"
                " SELECT :project, date_trunc('milliseconds', now() - i / 2 * interval '95 minutes'), gen_random_uuid(),"
                " gen_random_uuid(), :agent, (ARRAY['failed', 'unknown', 'settled'])[1 + i % 3], i, :asset, 'http://a', 0, 0,"
                " i % 7 = 0, 'agent' FROM generate_series(1, 200) i"
            ),
            asked,
        )
        await connection.execute(text("ANALYZE tollwatch.payments"))
        every = await connection.execute(
            text(
                "SELECT id FROM tollwatch.payments WHERE agent_id = :agent AND status = 'failed' AND NOT is_duplicate"
                " AND ts >= :from_ts ORDER BY ts DESC, id DESC"
            ),
            {"agent": asked["agent"], "from_ts": much.from_ts},
        )
        wanted = list(every.scalars())
    filters = {"agent_id": asked["agent"], "status": "failed"}
    first = FactPosition.first(much)
    lines = await plan(engine, world, listings.PAYMENTS, much, first, **filters)
    assert any("Index Cond" in line and "status = " in line for line in lines), "\n".join(lines)
    found, position = [], first
    while position is not None:
        asked_page = Asked(project_id=world.project_id, window=much, position=position, limit=5, filters=filters)
        async with reading(engine) as connection:
            page = await read_page(connection, listings.PAYMENTS, asked_page)
        found += [row.id for row in page.rows]
        position = page.next
    assert found == wanted
    assert len(found) > 40


async def test_a_page_of_samples_costs_the_same_at_any_depth(engine, world, much):
    wallet, asset = world.wallet_ids[0], world.assets["USDC"]
    asked = Asked(project_id=world.project_id, window=much, position=SamplePosition.first(much), limit=100, filters={})
    assert listings.rest_of_pair(asked) is None
    deep = [SamplePosition(wallet, asset, much.to_ts - timedelta(days=days)) for days in (0, 3, 6)]
    for page in (asked, *(listings.rest_of_pair(replace(asked, position=position)) for position in deep)):
        lines = await plan(engine, world, listings.SAMPLES, page.window, page.position, **page.filters)
        assert pages_read(lines) < 60, "\n".join(lines)
    for position in deep:
        lines = await plan(engine, world, listings.SAMPLES, much, position)
        assert pages_read(lines) < 10, "\n".join(lines)


async def test_hours_are_grouped_by_what_was_asked_for_and_nothing_else(engine, world, much):
    position = PaymentsBucketPosition.first(much)
    lines = await plan(engine, world, listings_buckets.PAYMENTS, much, position, by_status=True)
    keys = next(line for line in lines if "Group Key" in line and "status" in line)
    assert "service" not in keys
    assert "origin" not in keys
    assert "agent_id" not in keys
    assert not any("CASE" in line for line in lines)


async def test_a_page_of_the_ledger_looks_up_its_own_lines_alone(engine, world):
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO tollwatch.api_requests (project_id, ts, id, request_id, attempt, max_retries, agent_id, service,"
                " paid, backoff_ms, outcome, origin)"
                " SELECT :project, date_trunc('milliseconds', now() - i * interval '30 seconds'), gen_random_uuid(),"
                " CAST(md5(CAST((i - 1) / 2 AS text)) AS uuid), 1 + i % 2, 3, :agent, 'http://a', false, 0, 'ok', 'agent'"
                " FROM generate_series(1, CAST(:rows AS int)) i"
            ),
            {"project": world.project_id, "agent": world.agent_ids[0], "rows": ROWS},
        )
        await connection.execute(text("ANALYZE"))
    now = datetime.now(UTC)
    week = Window(now - timedelta(days=7), now + timedelta(minutes=5))
    for days_deep in (0, 5):
        position = FactPosition(now - timedelta(days=days_deep), UUID(int=2**127))
        lines = await plan(engine, world, trail.AUDIT_TRAIL, week, position)
        assert pages_read(lines) < 4_000, "\n".join(lines)
        asked = Asked(project_id=world.project_id, window=week, position=position, limit=100, filters={})
        async with reading(engine) as connection:
            page = await trail.read_trail(connection, trail.AUDIT_TRAIL, asked)
        assert [line.attempts for line in page.rows] == [2] * 100


async def test_parts_of_a_range_are_all_of_it_and_nothing_twice(engine, world):
    now = datetime.now(UTC).replace(microsecond=0)
    async with engine.begin() as connection:
        # Three at each time, every 6 hours: at the ends of parts too, which lie 1 and 5 days back.
        await connection.execute(
            text(
                "INSERT INTO tollwatch.api_requests (project_id, ts, id, request_id, attempt, max_retries, agent_id, service,"
                " paid, backoff_ms, outcome, origin)"
                " SELECT :project, :now - i / 3 * interval '6 hours', gen_random_uuid(), gen_random_uuid(), 1, 3,"
                " CASE i % 4 WHEN 0 THEN CAST(:agent AS int) ELSE CAST(:other AS int) END, 'http://a', false, 0, 'ok', 'agent'"
                " FROM generate_series(3, 119) i"
            ),
            {"project": world.project_id, "now": now, "agent": world.agent_ids[0], "other": world.agent_ids[1]},
        )
    window, sizes = Window(now - timedelta(days=9, hours=1), now), []
    for filters in ({}, {"agent_id": world.agent_ids[0]}, {"outcome": "failed"}):
        whole = Asked(
            project_id=world.project_id, window=window, position=FactPosition.first(window), limit=500, filters=filters
        )
        async with reading(engine) as connection:
            wanted = [row.id for row in (await read_page(connection, listings.REQUESTS, whole)).rows]
            ledger = await trail.read_trail(connection, trail.AUDIT_TRAIL, whole) if "outcome" not in filters else None
        assert ledger is None or [line.id for line in ledger.rows] == wanted
        for limit in (5, len(wanted), len(wanted) + 1):
            found, asked = [], replace(whole, limit=max(1, limit))
            while asked.position is not None:
                async with reading(engine) as connection:
                    page = await read_parts(connection, listings.REQUESTS, asked)
                assert len(page.rows) == asked.limit or page.next is None
                found += [row.id for row in page.rows]
                asked = replace(asked, position=page.next)
            assert found == wanted
        sizes.append(len(wanted))
    assert sizes == [108, 27, 0]


async def test_the_last_page_says_so(engine, world):
    asked = Asked(project_id=world.project_id, window=None, position=AgentPosition("agent-0"), limit=1, filters={})
    async with reading(engine) as connection:
        page = await read_page(connection, listings.AGENTS, asked)
    assert [row.agent for row in page.rows] == ["agent-1"]
    assert page.next is None


async def test_names_are_of_the_project_alone(engine, world):
    other = await make_world(engine, name="other", agents=3)
    async with reading(engine) as connection:
        assert await names.agent_id(connection, other.project_id, "agent-2") == other.agent_ids[2]
        with pytest.raises(NotFound, match=r"agent-0, agent-1$"):
            await names.agent_id(connection, world.project_id, "agent-2")
        with pytest.raises(NotFound):
            await names.wallet_ids(connection, world.project_id, "wallet-other-0")
        # USDC of two networks: both are meant.
        assert len(await names.asset_ids(connection, world.project_id, "USDC")) == 2
        with pytest.raises(InvalidValue, match=r"CASH, SOL, USDC$"):
            await names.asset_ids(connection, world.project_id, "\N{SNOWMAN}")
