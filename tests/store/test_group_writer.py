"""Group commit: shared transactions, exact counts for each, and nobody suffers for another."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import pytest_asyncio

from store import group_writer
from store.engine import create_engine
from store.errors import DatabaseBusy, DatabaseRefusedData, DatabaseTimeout, DatabaseUnavailable
from store.facts import Facts, Stored
from store.group_writer import GroupWriter
from store.writer import FactWriter
from tests.store.world import audit, make_world, moment, payment, queued, request, rows, sample

TICKS = itertools.count(60)
"""Seconds ago: no two samples at one tick."""


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=4)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


class Gate:
    """The real writer behind a gate that a test opens; keeps what went through."""

    def __init__(self, engine, deadlines):
        self.sink = FactWriter(engine, deadlines)
        self.open = asyncio.Event()
        self.groups = []

    async def write_group(self, group):
        self.groups.append([len(facts) for facts in group])
        await self.open.wait()
        return await self.sink.write_group(group)


@pytest_asyncio.fixture
async def gate(engine, deadlines):
    made = Gate(engine, deadlines)
    yield made
    made.open.set()


@pytest_asyncio.fixture
async def group(gate):
    made = GroupWriter(gate, max_waiting=1_000)
    yield made
    gate.open.set()
    await made.close()


async def fill_slots(group, world):
    """Occupy every slot; what comes next has to wait, and shares a transaction."""
    held = [
        asyncio.create_task(group.write(Facts(audit_events=[audit(world, "paused")])))
        for _ in range(group_writer.SLOTS)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return held


def one_of_each(world):
    return Facts(
        payments=[payment(world)],
        api_requests=[request(world)],
        audit_events=[audit(world, "breaker_opened", component="c")],
        queue_events=[queued(world)],
        balance_samples=[sample(world, 1, 1, at=moment(next(TICKS)))],
    )


async def test_batches_that_wait_share_a_transaction_and_hear_of_their_own(engine, world, gate, group):
    held = await fill_slots(group, world)
    shared, other = one_of_each(world), one_of_each(world)
    mixed = Facts(payments=[*shared.payments, *other.payments], audit_events=[*shared.audit_events])
    waiting = [
        asyncio.create_task(group.write(facts)) for facts in (shared, mixed, shared, Facts(payments=[payment(world)]))
    ]
    await asyncio.sleep(0)
    assert group.waiting == 5 + 3 + 5 + 1
    gate.open.set()
    first, second, third, fourth = [one.stored for one in await asyncio.gather(*waiting)]
    assert gate.groups[group_writer.SLOTS :] == [[5, 3, 5, 1]]
    assert first.new == dict.fromkeys(
        ("payments", "api_requests", "audit_events", "queue_events", "balance_samples"), 1
    )
    assert second.new == {"payments": 1, "audit_events": 0}
    assert (third.total, len(third.new), fourth.new) == (0, 5, {"payments": 1})
    assert [one.stored.total for one in await asyncio.gather(*held)] == [1] * group_writer.SLOTS
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payments") == [(3,)]


async def test_batches_of_two_projects_share_a_transaction(engine, world, gate, group):
    held = await fill_slots(group, world)
    other = await make_world(engine, name="other")
    waiting = [asyncio.create_task(group.write(one_of_each(one))) for one in (world, other)]
    await asyncio.sleep(0)
    gate.open.set()
    assert [one.stored.total for one in await asyncio.gather(*waiting)] == [5, 5]
    assert gate.groups[-1] == [5, 5]
    await asyncio.gather(*held)


async def test_a_poisonous_batch_fails_nobody_else_and_only_its_own_fact_is_refused(engine, world, gate, group):
    held = await fill_slots(group, world)
    poison, too_much = payment(world, status="nonsense"), request(world, service="a\0b")
    bad = Facts(payments=[payment(world), payment(world), poison], api_requests=[request(world), too_much])
    waiting = [asyncio.create_task(group.write(facts)) for facts in (one_of_each(world), bad, one_of_each(world))]
    await asyncio.sleep(0)
    gate.open.set()
    before, middle, after = await asyncio.gather(*waiting)
    assert (before.stored.total, after.stored.total) == (5, 5)
    assert (before.refused, after.refused) == ([], [])
    assert middle.stored.new == {"payments": 2, "api_requests": 1}
    assert {id(fact) for fact, _ in middle.refused} == {id(poison), id(too_much)}
    assert any("payments_status_check" in said for _, said in middle.refused)
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payments") == [(4,)]
    await asyncio.gather(*held)


async def test_a_batch_with_too_many_refused_facts_fails_as_a_whole(world, gate, group, monkeypatch):
    monkeypatch.setattr(group_writer, "MAX_REFUSED", 2)
    gate.open.set()
    bad = Facts(payments=[payment(world, status="nonsense") for _ in range(3)])
    with pytest.raises(DatabaseRefusedData):
        await group.write(bad)
    written = await group.write(Facts(payments=bad.payments[:2]))
    assert (written.stored.total, len(written.refused)) == (0, 2)


async def test_who_stops_waiting_breaks_no_group(engine, world, gate, group):
    held = await fill_slots(group, world)
    waiting = [asyncio.create_task(group.write(one_of_each(world))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    held[0].cancel()
    gate.open.set()
    for gone in (waiting[1], held[0]):
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert [(await one).stored.total for one in (waiting[0], waiting[2])] == [5, 5]
    assert [(await one).stored.total for one in held[1:]] == [1] * (group_writer.SLOTS - 1)
    await group.close()
    # Taken out of the queue, but not out of a transaction.
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payments") == [(2,)]
    assert await rows(engine, "SELECT count(*) FROM tollwatch.audit_events WHERE event_type = 'paused'") == [
        (group_writer.SLOTS,)
    ]


async def test_what_waits_is_bounded_and_who_is_sent_away_changes_nothing(world, gate, engine):
    group = GroupWriter(gate, max_waiting=3)
    held = await fill_slots(group, world)
    (big,) = [asyncio.create_task(group.write(Facts(api_requests=[request(world) for _ in range(5)])))]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseBusy):
        await group.write(Facts(payments=[payment(world)]))
    gate.open.set()
    assert (await big).stored.total == 5
    assert group.waiting == 0
    await asyncio.gather(*held)
    assert (await group.write(Facts(payments=[payment(world)]))).stored.total == 1
    await group.close()
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payments") == [(1,)]


async def test_a_group_is_bounded_but_for_a_single_batch(world, gate, group, monkeypatch):
    monkeypatch.setattr(group_writer, "GROUP_ROWS", 4)
    held = await fill_slots(group, world)
    sizes = [2, 2, 1, 9, 1]
    waiting = [
        asyncio.create_task(group.write(Facts(api_requests=[request(world) for _ in range(size)]))) for size in sizes
    ]
    await asyncio.sleep(0)
    gate.open.set()
    assert [one.stored.total for one in await asyncio.gather(*waiting)] == sizes
    assert gate.groups[group_writer.SLOTS :] == [[2, 2], [1], [9], [1]]
    await asyncio.gather(*held)


@pytest.mark.parametrize("exc", [DatabaseUnavailable, DatabaseTimeout])
async def test_a_database_that_is_away_is_said_to_all_of_a_group_once(exc):
    class Away:
        calls = 0

        async def write_group(self, group):
            self.calls += 1
            await asyncio.sleep(0.001)
            raise exc

    away = Away()
    group = GroupWriter(away, max_waiting=10)
    answers = await asyncio.gather(*(group.write(Facts(payments=[None])) for _ in range(10)), return_exceptions=True)
    assert {type(one) for one in answers} == {exc}
    assert away.calls == group_writer.SLOTS + 1
    await group.close()


async def test_fifty_clients_of_single_events_with_overlaps_are_counted_exactly(engine, world, deadlines):
    group = GroupWriter(FactWriter(engine, deadlines), max_waiting=1_000)
    events = [payment(world, amount=number) for number in range(100)]
    new = [0] * len(events)

    async def client(number):
        for step in range(20):
            which = (number * 7 + step * 3) % len(events)
            stored = (await group.write(Facts(payments=[events[which]]))).stored
            assert stored in (Stored(new={"payments": 0}), Stored(new={"payments": 1}))
            new[which] += stored.total

    await asyncio.gather(*map(client, range(50)))
    assert new == [1] * len(events)
    assert await rows(engine, "SELECT count(*), sum(amount) FROM tollwatch.payments WHERE NOT is_duplicate") == [
        (100, sum(range(100)))
    ]
    await group.close()
