"""The exporter's limits: who may scrape, how much, how often, and what is told while the database is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio
from sqlalchemy import text

from api import exporter, exporter_snapshots
from api.exporter_families import FAMILIES
from api.exporter_snapshots import Snapshots
from api.exporter_values import HISTOGRAM_WIDTH
from store.deadlines import Deadlines
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

    site.app.state.exporter = snapshots = Snapshots(reader, most=100, deadlines=site.state.deadlines, interval=60.0)
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
    await site.app.state.exporter.close()
    site.app.state.exporter = exporter.snapshots_of(site.state, interval=0.0, late=0.0)
    assert of(await scrape(site), "tollwatch_exporter_database_up") == {(): 1}


async def test_a_failure_is_remembered_as_long_as_a_snapshot():
    asked = []

    async def away():
        asked.append(None)
        raise DatabaseUnavailable

    kept = Snapshots(lambda _: away, most=1, deadlines=Deadlines(), interval=60.0)
    taken = await asyncio.gather(*(kept.get(None) for _ in range(20)))
    assert {one.is_up for one in taken} == {False}
    assert asked == [None]
    await kept.close()


class Watch:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest_asyncio.fixture
async def aging(site, deadlines):
    """Snapshots every ten seconds by a watch; `lost` in a list: the database is away."""
    away = create_engine("postgresql://nobody@127.0.0.1:1/nothing", deadlines)
    ways = [exporter.snapshots_of(replace(site.state, engine=engine), interval=10.0) for engine in (site.engine, away)]
    lost, watch = [], Watch()

    def reader(project_id):
        readers = [way._reader(project_id) for way in ways]

        async def read():
            return await readers[bool(lost)]()

        return read

    site.app.state.exporter = Snapshots(reader, most=1000, deadlines=deadlines, interval=10.0, clock=watch)
    yield watch, lost
    await site.app.state.exporter.close()
    await away.dispose()


async def test_what_was_acknowledged_shows_within_the_bound_and_older_facts_are_never_told(site, aging):
    watch, lost = aging

    async def told():
        found = await scrape(site)
        up = of(found, "tollwatch_exporter_database_up")[()]
        return (
            list(of(found, "tollwatch_payments_total").values()),
            up,
            list(of(found, "tollwatch_exporter_facts_age_seconds").values()),
        )

    await site.write(payments=[payment(site.world)])
    assert await told() == ([1], 1, [0])
    await site.write(payments=[payment(site.world)])
    watch.now += 19.9
    assert await told() == ([1], 1, [pytest.approx(19.9)])  # from memory: no reading is due
    watch.now += 0.1
    assert await told() == ([2], 1, [0])
    lost.append(True)
    watch.now += 20
    assert await told() == ([2], 0, [20])  # the database is away, and the facts are not too old
    watch.now += 4.9
    assert await told() == ([2], 0, [pytest.approx(24.9)])
    watch.now += 0.1
    assert await told() == ([], 0, [])
    lost.clear()
    watch.now += 20
    assert await told() == ([2], 1, [0])


async def test_who_is_scraped_is_kept_up_to_date_and_who_is_not_is_forgotten(site):
    site.app.state.exporter = snapshots = exporter.snapshots_of(site.state, interval=0.1)
    watch = Watch()
    await scrape(site)
    await site.write(payments=[payment(site.world)])
    slot = snapshots._slots[None]
    while b"tollwatch_payments_total{" not in b"".join(slot.taken.facts):
        await asyncio.wait({slot.keeper}, timeout=0.02)
    assert snapshots.kept_bytes > sum(map(len, slot.taken.facts)) > 0
    watch.now += 1000 + asyncio.get_running_loop().time()
    snapshots._clock = watch
    await asyncio.wait_for(slot.keeper, 30)
    assert (snapshots._slots, snapshots.kept_bytes) == ({}, 0)


async def test_a_reading_that_takes_long_goes_on_and_no_scrape_waits_for_it(site, deadlines):
    going_on = asyncio.Event()
    read = site.app.state.exporter._reader(None)

    async def slow():
        await going_on.wait()
        return await read()

    hurried = replace(deadlines, read_statement=0.05)
    snapshots = site.app.state.exporter = Snapshots(lambda _: slow, most=1000, deadlines=hurried, interval=10.0)
    await site.write(payments=[payment(site.world)])
    assert of(await scrape(site), "tollwatch_exporter_database_up") == {(): 0}
    assert of(await scrape(site), "tollwatch_payments_total") == {}
    going_on.set()
    await snapshots._slots[None].reading
    found = await scrape(site)
    assert of(found, "tollwatch_exporter_database_up") == {(): 1}
    assert list(of(found, "tollwatch_payments_total").values()) == [1]


async def test_packed_is_the_same_text(site):
    await site.write(payments=[payment(site.world)], api_requests=[request(site.world)])
    site.app.state.exporter = exporter.snapshots_of(site.state, interval=60.0)

    async def body(accept):
        async with site.client(None, **{"Accept-Encoding": accept}) as client:
            answer = await client.get("/metrics")
        assert answer.headers["vary"] == "Accept-Encoding"
        return answer.headers.get("content-encoding"), answer.content

    plain, packed = await body("identity"), await body("br, gzip;q=0.5")
    assert (plain[0], packed[0]) == (None, "gzip")
    changing = (b"_age_seconds", b"_kept_bytes", b"connections", b"db_oldest", b"db_size")

    def lasting(content):
        return [line for line in content.splitlines() if not any(name in line for name in changing)]

    assert lasting(packed[1]) == lasting(plain[1])
    assert (await body("gzip"))[1].splitlines()[-1] == packed[1].splitlines()[-1]


def test_gzip_is_sent_to_whom_it_is_named_by():
    for header, expected in (
        ("gzip", True),
        ("deflate, GZIP ;q=1.0, *;q=0.5", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity", False),
        ("xgzip", False),
        ("", False),
    ):
        assert exporter.accepts_gzip(header) is expected, header


async def test_more_text_than_there_is_room_for_makes_who_was_scraped_longest_ago_be_forgotten(site, monkeypatch):
    await site.write(payments=[payment(site.world)])
    snapshots = exporter.snapshots_of(site.state, interval=60.0)
    for project_id in (None, site.world.project_id):
        await snapshots.get(project_id)
    assert list(snapshots._slots) == [None, site.world.project_id]
    monkeypatch.setattr(exporter_snapshots, "MOST_BYTES", snapshots.kept_bytes - 1)
    await snapshots.get(None)
    assert list(snapshots._slots) == [None]
    await snapshots.close()
