"""Totals that are kept are those that one would read now: whatever arrives, settles, is folded or erased meanwhile."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from store import rollups, totals
from store.edition import Edition
from store.engine import create_engine, reading
from store.facts import Facts
from store.metrics_snapshot import read_moment
from store.metrics_totals import LATE_SECONDS, SETTLED_SECONDS, Totals
from store.writer import FactWriter
from tests.store.world import audit, make_world, moment, payment, request

HOUR, DAY = 3600, 24 * 3600
RELATIONS = 3


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, replace(deadlines, read_statement=30), pool_size=4)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine, agents=3)


@pytest.fixture
def kind(edition):
    return Edition(edition)


@pytest.fixture
def write(engine, deadlines):
    return lambda **facts: FactWriter(engine, deadlines).write(Facts(**facts))


@pytest.fixture
def refresh(engine, kind, settings):
    async def run():
        now = datetime.now(UTC)
        await rollups.refresh_range(engine, kind, settings, now - timedelta(days=20), now + timedelta(hours=1))

    return run


class Watch:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def kept(project_id=None, most=1000, **options):
    return Totals(project_id=project_id, most=most, most_latencies=most, **options)


@pytest.fixture
def read(engine, kind):
    """What totals tell, as {family: {key: sums}}, `ago` as the time of the snapshot."""

    async def run(of, ago=timedelta()):
        async with reading(engine) as connection:
            known = await read_moment(connection, kind)
            told = await of.read(connection, replace(known, now=known.now - ago))
        assert all(list(total.rows) == sorted(total.rows, key=lambda row: row[0]) for total in told.values())
        return {family: dict(total.rows) for family, total in told.items()}

    return run


def facts(world, rng, number, ages):
    def some():
        return {"at": moment(rng.randrange(*ages)), "agent": rng.randrange(3)}

    return {
        "payments": [
            payment(world, **some(), status=rng.choice(("pending", "settled")), amount=rng.randrange(10**15))
            for _ in range(number)
        ],
        "api_requests": [
            request(
                world,
                **some(),
                service=rng.choice("abc"),
                outcome=rng.choice(("ok", "failed")),
                latency_ms=rng.choice((None, rng.randrange(5000))),
            )
            for _ in range(number)
        ],
        "audit_events": [
            audit(world, rng.choice(("breaker_opened", "paused")), **some(), component=rng.choice("xy"))
            for _ in range(number)
        ],
    }


async def test_what_is_kept_equals_what_is_read_anew_while_facts_arrive_hours_settle_and_are_folded(
    engine, kind, settings, world, write, refresh, read
):
    rng = random.Random(4)
    await write(**facts(world, rng, 60, (0, 19 * DAY)))
    await refresh()
    watch = Watch()
    going_on = kept(clock=watch)
    for step, ago in enumerate((30 * HOUR, 29 * HOUR, 5 * HOUR, 4 * HOUR, 0)):
        assert await read(going_on, timedelta(seconds=ago)) == await read(kept()), ago
        assert going_on.settled_reads == RELATIONS
        if step == 1:
            assert await totals.fold(engine, kind, settings) == RELATIONS
        # Nothing of this is older than an hour then: all of it shows at once.
        await write(**facts(world, rng, 20, (0, max(1, ago))))
        await refresh()
    assert await read(going_on) == await read(kept())
    assert going_on.settled_reads == RELATIONS
    assert await read(kept(world.project_id)) == await read(kept())
    assert not any((await read(kept(world.project_id + 1))).values())


async def test_a_late_event_shows_at_once_and_further_ones_within_a_minute(world, write, refresh, read):
    async def late(**more):
        await write(payments=[payment(world, at=moment(3 * DAY), **more)])
        await refresh()

    await late()
    watch = Watch()
    going_on = kept(clock=watch)
    key = (world.project_id, world.agent_ids[0], world.assets["USDC"], "settled", "agent")

    async def told():
        return (await read(going_on))["payments"][key]

    assert await told() == (1, 1000)
    watch.now += LATE_SECONDS
    await late()
    assert await told() == (2, 2000)
    await late(amount=5)
    watch.now += LATE_SECONDS - 1
    assert await told() == (2, 2000)
    await write(payments=[payment(world, amount=7)])
    assert await told() == (3, 2007)
    watch.now += 1
    assert await told() == (4, 2012)
    assert going_on.settled_reads == RELATIONS + 2
    watch.now += SETTLED_SECONDS
    assert await told() == (4, 2012)
    assert going_on.settled_reads == 2 * RELATIONS + 2


async def test_what_rollups_lack_leaves_totals_as_they_are(world, write, refresh, read):
    await write(payments=[payment(world, at=moment(3 * DAY + number * HOUR)) for number in range(3)])
    await refresh()
    watch = Watch()
    going_on = kept(clock=watch)
    first = await read(going_on)
    await write(payments=[payment(world, at=moment(3 * DAY + HOUR))])  # in no rollup yet
    for _ in range(3):
        watch.now += LATE_SECONDS / 2
        assert (await read(going_on))["payments"].keys() == first["payments"].keys()
        assert min(sums[0] for sums in (await read(going_on))["payments"].values()) >= 3
    await refresh()
    watch.now += LATE_SECONDS
    assert await read(going_on) == await read(kept())
    assert [sums[0] for sums in (await read(going_on))["payments"].values()] == [4]


async def test_more_than_the_limit_are_always_the_first_ones(world, write, refresh, read):
    rng = random.Random(6)
    await write(**facts(world, rng, 40, (2 * HOUR, 10 * DAY)))
    await refresh()
    going_on = kept(most=4)
    await read(going_on, timedelta(days=2))
    await write(**facts(world, rng, 40, (0, HOUR)))
    everything = await read(kept())
    told = await read(going_on)
    assert told == {family: dict(sorted(sums.items())[:4]) for family, sums in everything.items()}


async def test_what_is_erased_is_told_no_more(engine, kind, settings, world, write, refresh, read):
    other = await make_world(engine, name="other")
    await write(payments=[payment(of, at=moment(15 * DAY)) for of in (world, other)])
    await refresh()
    assert await totals.fold(engine, kind, settings) == RELATIONS
    going_on = kept(late=0.0)
    assert {key[0] for key in (await read(going_on))["payments"]} == {world.project_id, other.project_id}
    async with engine.begin() as connection:
        await connection.exec_driver_sql(f"DELETE FROM tollwatch.payment_totals WHERE project_id = {other.project_id}")
    assert {key[0] for key in (await read(going_on))["payments"]} == {world.project_id}
