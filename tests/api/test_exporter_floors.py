"""A total is told no lower than before while a refresh catches up, and no longer than that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest_asyncio
from sqlalchemy import text

from api import exporter, exporter_snapshots
from api.exporter_floors import HOLD_SECONDS, Floors
from api.exporter_values import Histogram
from store.aged_cache import utc_now
from store.edition import Edition
from store.engine import reading
from tests.api.test_exporter_tools import of, scrape
from tests.api.test_reads_tools import add_key, close_site, make_site
from tests.store.world import moment, payment, request

PAID = ("tollwatch_payments_total", {"status": "settled"})
HELD = "tollwatch_exporter_series_held"
DAY = 24 * 3600.0
LATE = 3 * 3600.0
"""Seconds: in an hour that no refresh has reached yet, and that the next one will."""


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    await add_key(made, "metrics", "acme", "metrics")
    made.app.state.exporter = exporter.snapshots_of(made.state, interval=0.0, late=0.0)
    yield made
    await close_site(made)


async def told(site):
    found = await scrape(site, "metrics")
    return sum(of(found, PAID[0], **PAID[1]).values()), found[HELD, frozenset()]


@asynccontextmanager
async def materialising(site):
    """Inside the block the late hour is materialised, and nobody sees that yet; after it, everybody does."""
    url = site.state.settings.database_url
    if site.state.edition is not Edition.COMMUNITY:
        # Own rollups hold writers off. What it would be if they did not: the hour has passed the watermark, and its rows
        # are in no rollup, only in the log.
        yield
        move_watermark(url, timedelta())
        return
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as eye:
        holder.execute("LOCK TABLE _timescaledb_catalog.continuous_aggs_watermark IN SHARE MODE")
        refreshing = asyncio.create_task(asyncio.to_thread(refresh_hours, url))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CALL public.refresh%'"
        )
        while not eye.execute(waiting).fetchone()[0]:
            assert not refreshing.done()
            await asyncio.sleep(0.02)
        yield
        holder.rollback()
        await refreshing


def move_watermark(url, ago):
    """Of own rollups; on community it is so old as long as nothing was refreshed."""
    with psycopg.connect(url, autocommit=True) as owner:
        moved = "UPDATE tollwatch_internal.rollup_state SET watermark = date_trunc('hour', now() - %s)"
        owner.execute(moved, (ago,))


def refresh_hours(url):
    end = utc_now()
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "CALL public.refresh_continuous_aggregate('tollwatch.payments_hourly', %s::timestamptz, %s::timestamptz)",
            (end - timedelta(days=2), end - timedelta(hours=1)),
        )


async def counted(site):
    async with reading(site.engine) as connection:
        found = await connection.execute(text("SELECT coalesce(sum(payments), 0) FROM tollwatch.payments_hourly"))
        return found.scalar_one()


async def test_a_total_does_not_fall_while_its_hour_is_materialised(site):
    is_community = site.state.edition is Edition.COMMUNITY
    await site.write(payments=[payment(site.world, at=moment(LATE if is_community else 2 * DAY), status="settled")])
    if not is_community:
        await site.refresh()
        move_watermark(site.state.settings.database_url, timedelta(days=1))
    assert await told(site) == (1.0, 0.0)
    async with materialising(site):
        await site.write(payments=[payment(site.world, at=moment(LATE), status="settled")])
        assert await told(site) == (2.0, 0.0)
    assert await counted(site) < 2  # it is this that the guard is for
    assert await told(site) == (2.0, 2.0)  # payments, and their amount
    await site.refresh()
    assert await told(site) == (2.0, 0.0)


def test_what_stays_lower_is_told_in_the_end():
    now = [0.0]
    floors = Floors(clock=lambda: now[0])

    def tell(value, at):
        now[0] = at
        floors.begin()
        found = floors.value(("a",), value)
        held = floors.held
        floors.end()
        return found, held

    assert tell(5.0, 0) == (5.0, 0)
    assert tell(3.0, 1) == (5.0, 1)
    assert tell(4.0, 1 + HOLD_SECONDS) == (5.0, 1)
    assert tell(4.0, 2 + HOLD_SECONDS) == (4.0, 0)
    assert tell(6.0, 3 + HOLD_SECONDS) == (6.0, 0)
    assert tell(5.0, 4 + HOLD_SECONDS) == (6.0, 1)
    floors.begin()
    floors.end()
    assert tell(1.0, 5 + HOLD_SECONDS) == (1.0, 0)  # a series that was not told is forgotten


def test_buckets_are_held_one_by_one_and_stay_cumulative():
    floors = Floors()
    for read, expected in (
        (Histogram([("1", 2.0), ("+Inf", 5.0)], 9.0), Histogram([("1", 2.0), ("+Inf", 5.0)], 9.0)),
        (Histogram([("1", 1.0), ("+Inf", 6.0)], 8.0), Histogram([("1", 2.0), ("+Inf", 6.0)], 9.0)),
    ):
        floors.begin()
        assert floors.value(("a",), read) == expected
        floors.end()


async def test_what_scopes_were_told_is_bounded(site):
    await site.write(api_requests=[request(site.world, at=moment())])
    snapshots = site.app.state.exporter
    for project_id in range(exporter_snapshots.MOST_SCOPES + 3):
        await snapshots.get(project_id)
    assert len(snapshots._slots) == exporter_snapshots.MOST_SCOPES
