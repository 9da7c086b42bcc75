"""The exporter's limits: who may scrape, how much, how often, and what is told while the database is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest_asyncio
from sqlalchemy import text

from api import exporter
from api.exporter_families import FAMILIES
from api.exporter_snapshots import Snapshots
from api.exporter_values import HISTOGRAM_WIDTH
from store.engine import create_engine
from store.errors import DatabaseUnavailable
from tests.api.test_exporter_tools import of, scrape
from tests.api.test_reads_tools import add_key, close_site, make_site
from tests.store.world import audit, make_world, payment, request, sample


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    await add_key(made, "metrics", "acme", "metrics")
    yield made
    await close_site(made)


async def test_off_loopback_a_key_is_needed_and_sees_its_own_project_alone(site):
    other = await make_world(site.engine, name="other")
    await site.write(payments=[payment(site.world), payment(other)])
    everything = await scrape(site)
    assert {labels[4] for labels in of(everything, "tollwatch_payments_total")} == {"acme", "other"}
    own = await scrape(site, key="metrics")
    assert {labels[4] for labels in of(own, "tollwatch_payments_total")} == {"acme"}

    async def status(key=None, address="127.0.0.1", **headers):
        async with site.client(key, address, **headers) as client:
            return (await client.get("/metrics")).status_code

    assert await status(address="127.8.8.8") == 200
    assert await status(address="::1") == 200
    assert await status(address="::ffff:127.0.0.1") == 200
    assert await status(address="192.0.2.7") == 401
    assert await status(address="::ffff:192.0.2.7") == 401
    assert await status(address="not-an-address") == 401
    assert await status(address="192.0.2.7", key="metrics") == 200
    assert await status(address="192.0.2.7", key="read") == 403
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        # Neither lets a stranger in, nor a proxy on this machine speak for one.
        assert await status(address="192.0.2.7", **{header: "127.0.0.1"}) == 401
        assert await status(**{header: "192.0.2.7"}) == 401
        assert await status(**{header: "127.0.0.1"}) == 401
    assert await status(Host="localhost:8402") == 200
    assert await status(Host="rebound.example.com:8402") == 401


async def test_more_series_than_the_limit_are_counted_not_told(site, settings, deadlines):
    await site.write(
        payments=[payment(site.world, status=status) for status in ("pending", "verified", "settled", "failed")],
        api_requests=[request(site.world, service=f"http://{i}") for i in range(5)],
        balance_samples=[sample(site.world, 1, 1, asset=asset) for asset in ("USDC", "SOL", "CASH")],
        audit_events=[
            audit(site.world, f"breaker_{s}", component=f"c{i}") for i in range(2) for s in ("opened", "closed")
        ],
    )
    await make_world(site.engine, name="other")
    limited = replace(site.state, settings=replace(settings, max_series=2))
    site.app.state.exporter = exporter.snapshots_of(limited, interval=0.0, late=0.0)
    found = await scrape(site)
    told = {family.exposed: len(of(found, family.exposed)) for family in FAMILIES}
    # Nothing flowed out, and one histogram alone would be too many.
    none = {"tollwatch_wallet_runway_seconds", "tollwatch_request_duration_seconds"}
    assert told == {family.exposed: 0 if family.exposed in none else 2 for family in FAMILIES}
    assert {labels[0]: value for labels, value in of(found, "tollwatch_exporter_series_dropped").items()} == {
        "tollwatch_wallet_balance": 1,
        "tollwatch_wallet_balance_threshold": 1,
        "tollwatch_wallet_balance_updated_timestamp_seconds": 1,
        "tollwatch_payments_total": 2,
        "tollwatch_payment_amount_total": 2,
        "tollwatch_requests_total": 3,
        "tollwatch_request_retries_total": 3,
        "tollwatch_circuit_breaker_state": 4,
        "tollwatch_wallet_runway_seconds": 1,
        "tollwatch_request_duration_seconds": 5 * HISTOGRAM_WIDTH,
        "tollwatch_circuit_breaker_transitions_total": 2,
        "tollwatch_audit_events_total": 1,
        "tollwatch_queue_depth": 2,
        "tollwatch_open_payments": 0,
    }
    again = await scrape(site)
    assert {key for key in again if key[0].startswith("tollwatch_pay")} == {
        key for key in found if key[0].startswith("tollwatch_pay")
    }


async def test_a_storm_of_scrapes_asks_the_database_once(site):
    asked = []
    kept = exporter.snapshots_of(site.state, interval=60.0)

    def reader(project_id):
        read = kept._reader(project_id)

        async def counting():
            asked.append(project_id)
            return await read()

        return counting

    site.app.state.exporter = snapshots = Snapshots(reader, most=100, deadline=5.0, interval=60.0)
    answers = await asyncio.gather(*(site.get("/metrics", key=key) for key in [None, "metrics"] * 30))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(asked, key=str) == sorted([None, site.world.project_id], key=str)
    await snapshots.close()


async def test_while_the_database_is_away_facts_are_absent_and_the_rest_is_told(site, deadlines):
    await site.write(payments=[payment(site.world)])
    assert of(await scrape(site), "tollwatch_payments_total")
    site.state.ingest_metrics.count("payment", "accepted")
    away = create_engine("postgresql://nobody@127.0.0.1:1/nothing", deadlines)
    held = replace(site.state, engine=away)
    site.app.state.tollwatch = held
    site.app.state.exporter = exporter.snapshots_of(held, interval=0.0, late=0.0)
    found = await scrape(site)
    assert of(found, "tollwatch_exporter_database_up") == {(): 0}
    assert of(found, "tollwatch_ingest_events_total") == {("", "accepted", "payment"): 1}
    facts = tuple(family.name for family in FAMILIES)
    assert not [name for name, _ in found if name.startswith(facts)]
    await away.dispose()


async def test_a_database_that_hangs_is_given_up_at_the_deadline(site, deadlines):
    impatient = replace(site.state, deadlines=replace(deadlines, read_statement=1.0))
    site.app.state.exporter = exporter.snapshots_of(impatient, interval=0.0, late=0.0)
    async with site.engine.begin() as connection:
        await connection.execute(text("LOCK TABLE tollwatch.payment_totals IN ACCESS EXCLUSIVE MODE"))
        found = await scrape(site)
    assert of(found, "tollwatch_exporter_database_up") == {(): 0}
    site.app.state.exporter = exporter.snapshots_of(site.state, interval=0.0, late=0.0)
    assert of(await scrape(site), "tollwatch_exporter_database_up") == {(): 1}


async def test_a_failure_is_remembered_as_long_as_a_snapshot():
    asked = []

    async def away():
        asked.append(None)
        raise DatabaseUnavailable

    kept = Snapshots(lambda project_id: away, most=1, deadline=1.0, interval=60.0)
    taken = await asyncio.gather(*(kept.get(None) for _ in range(20)))
    assert {one.is_up for one in taken} == {False}
    assert asked == [None]
    await kept.close()
