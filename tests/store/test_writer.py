"""The writer: exactly once, heads in the fact's own transaction, on every edition."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from store.engine import create_engine
from store.errors import DatabaseError, DatabaseUnavailable
from store.facts import MAX_AMOUNT, Facts
from store.identity import uuid7
from store.tables import ORIGINS, PAYMENT_STATUSES
from store.writer import FactWriter
from tests.store.world import audit, make_world, moment, payment, request, rows, sample

PAYMENTS = "SELECT payment_id, status, origin, amount, is_duplicate FROM tollwatch.payments ORDER BY ts, id"
HEADS = "SELECT payment_id, status, origin FROM tollwatch.payment_heads"


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=6)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


@pytest.fixture
def writer(engine, deadlines):
    return FactWriter(engine, deadlines)


async def test_a_batch_sent_three_times_shuffled_by_four_clients_is_stored_once(engine, world, writer):
    batch = [payment(world, amount=i) for i in range(200)] + [request(world) for _ in range(200)]

    async def client(seed):
        shuffled = batch[:]
        random.Random(seed).shuffle(shuffled)
        new = Counter()
        for start in range(0, len(shuffled), 100):
            part = shuffled[start : start + 100]
            facts = Facts(
                payments=[row for row in part if hasattr(row, "amount")],
                api_requests=[row for row in part if hasattr(row, "attempt")],
            )
            new.update((await writer.write(facts)).new)
        return new

    counted = await asyncio.gather(*(client(seed) for seed in range(4)))
    assert sum(counted, Counter()) == Counter(payments=200, api_requests=200)
    assert await rows(engine, "SELECT count(*), sum(amount) FROM tollwatch.payments WHERE NOT is_duplicate") == [
        (200, sum(range(200)))
    ]
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payment_heads") == [(200,)]


async def test_every_field_comes_back_as_it_went_in(engine, world, writer):
    one = payment(
        world,
        amount=MAX_AMOUNT,
        request_id=uuid4(),
        x402_payment_id="x",
        session_id=uuid4(),
        pay_to=b"\0" * 32,
        resource="http://market/a?b",
        facilitator="http://f",
        signature=bytes(range(64)),
        slot=2**40,
        commitment="confirmed",
        confirmations=3,
        fee_lamports=5000,
        retry_count=2,
        backoff_ms=10,
        error_type="timeout",
        failure_reason="µ",
        facilitator_response='{"a": 1}',
        metadata='{"b": [null]}',
    )
    await writer.write(Facts(payments=[one]))
    names = one.__struct_fields__
    [stored] = await rows(engine, f"SELECT {', '.join(names)} FROM tollwatch.payments")
    expected = {name: getattr(one, name) for name in names} | {
        "facilitator_response": {"a": 1},
        "metadata": {"b": [None]},
    }
    assert dict(zip(names, stored, strict=True)) == expected


async def test_the_same_settlement_under_a_new_id_moves_no_sum(engine, world, writer):
    first = payment(world, signature=b"s" * 64)
    again = payment(world, payment_id=first.payment_id, signature=b"s" * 64)
    other = payment(world, signature=b"s" * 64)
    for batch in ([first], [again], [other], [first, again, other]):
        await writer.write(Facts(payments=batch))
    assert await rows(engine, "SELECT sum(payments), sum(duplicates), sum(amount) FROM tollwatch.payments_hourly") == [
        (1, 2, 1000)
    ]


async def test_one_signature_in_one_batch_settles_one_payment(engine, world, writer):
    await writer.write(Facts(payments=[payment(world, signature=b"s" * 64) for _ in range(5)]))
    assert await rows(engine, "SELECT count(*) FILTER (WHERE is_duplicate), count(*) FROM tollwatch.payments") == [
        (4, 5)
    ]


async def test_an_id_that_is_reused_for_another_payment_leaves_no_trace(engine, world, writer):
    first = payment(world)
    liar = payment(world, at=first.ts, id=first.id)
    await writer.write(Facts(payments=[first]))
    assert (await writer.write(Facts(payments=[liar]))).total == 0
    assert await rows(engine, HEADS) == [(first.payment_id, "settled", "agent")]


@pytest.mark.parametrize("apart", [False, True])
async def test_a_new_head_knows_nothing_of_transitions_that_were_not_stored(engine, world, writer, apart):
    """An id of another payment, and one that is told twice with two contents: what is stored counts."""
    first = payment(world, status="pending")
    await writer.write(Facts(payments=[first]))
    one, other = uuid4(), uuid4()
    liar = payment(world, payment_id=one, at=first.ts, id=first.id, status="settled", signature=b"s" * 64)
    told = payment(world, payment_id=one, status="verified", at=moment(30), amount=7)
    twin = payment(world, payment_id=other, at=told.ts, id=told.id, status="failed")
    alone = payment(world, payment_id=other, status="pending", at=moment(20), request_id=uuid4())
    group = [[liar], [told], [twin], [alone]] if apart else [[liar, told, twin, alone]]
    stored = await writer.write_group([Facts(payments=batch) for batch in group])
    assert [batch.total for batch in stored] == ([0, 1, 0, 1] if apart else [2])
    held = "SELECT payment_id, told, status, amount, opened_ts, last_ts, request_id, signature FROM tollwatch.payment_heads"
    assert sorted(await rows(engine, held), key=lambda row: row[4]) == [
        (first.payment_id, 2, "pending", first.amount, first.ts, first.ts, None, None),
        (one, 8, "verified", 7, told.ts, told.ts, None, None),
        (other, 2, "pending", alone.amount, alone.ts, alone.ts, alone.request_id, None),
    ]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("known", [False, True])
async def test_a_reused_id_settles_nothing(engine, world, writer, together, known):
    """The transaction of an event that is not stored stays free for the payment that it did settle."""
    first, lied, true = payment(world), uuid4(), uuid4()
    liar = payment(world, payment_id=lied, at=first.ts, id=first.id, signature=b"s" * 64)
    chain = payment(world, payment_id=true, at=moment(1), origin="chain", signature=b"s" * 64)
    begun = [payment(world, payment_id=lied, status="pending", at=moment(90))] if known else []
    await writer.write(Facts(payments=[first, *begun]))
    for batch in [[liar, chain]] if together else [[liar], [chain]]:
        await writer.write(Facts(payments=batch))
    settled = "SELECT payment_id, is_duplicate FROM tollwatch.payments WHERE status = 'settled' ORDER BY ts"
    assert await rows(engine, settled) == [(first.payment_id, False), (true, False)]
    assert await rows(engine, "SELECT payment_id FROM tollwatch.payment_settlements") == [(true,)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["pending/agent", "settled/agent"], "settled"),
        (["settled/agent", "pending/agent"], "settled"),
        (["settled/agent", "failed/chain"], "failed"),
        (["failed/agent", "retrying/agent", "settled/agent"], "settled"),
        (["verified/facilitator", "unknown/agent", "pending/agent"], "unknown"),
        (["settled/chain", "reverted/chain"], "reverted"),
        (["reverted/agent", "settled/facilitator"], "settled"),
    ],
)
async def test_precedence(engine, world, writer, told, expected):
    payment_id = uuid4()
    for i, item in enumerate(told):
        status, origin = item.split("/")
        await writer.write(
            Facts(payments=[payment(world, payment_id=payment_id, status=status, origin=origin, at=moment(60 - i))])
        )
    assert [row[1] for row in await rows(engine, HEADS)] == [expected]


TRANSITIONS = st.lists(
    st.tuples(
        st.integers(0, 3),  # payment
        st.sampled_from(PAYMENT_STATUSES),
        st.sampled_from(ORIGINS[:3]),
        st.integers(0, 40),  # event number: repeats are resends
        st.integers(0, 5),  # signature
    ),
    min_size=1,
    max_size=25,
)


def rank(status, origin):
    order = ["agent", "facilitator", "chain"].index(origin) + 1
    if status in ("failed", "settled", "reverted"):
        return 100 + 10 * order + ["failed", "settled", "reverted"].index(status)
    return 10 * ["pending", "retrying", "verified", "unknown"].index(status) + order


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=TRANSITIONS, cuts=st.lists(st.integers(1, 8), min_size=30, max_size=30))
def test_whatever_the_order_each_payment_counts_once_per_status(database_url, deadlines, events, cuts):
    async def run():
        engine = create_engine(database_url, deadlines, pool_size=2)
        writer = FactWriter(engine, deadlines)
        world = await make_world(engine, name=str(uuid4()))
        base, made = moment(3600), {}
        payment_ids = [uuid4() for _ in range(4)]
        try:
            sent = []
            for number, status, origin, event, _ in events:
                key = (number, event)
                at = base + timedelta(milliseconds=event)
                made.setdefault(
                    key,
                    payment(
                        world,
                        at=at,
                        id=uuid7(at, bytes([number, event] * 5)),
                        payment_id=payment_ids[number],
                        status=status,
                        origin=origin,
                        amount=event + 1,
                    ),
                )
                sent.append(made[key])
            queue, stored = sent[:], 0
            for cut in cuts:
                part, queue = queue[:cut], queue[cut:]
                if part:
                    stored += (await writer.write(Facts(payments=part))).total
            assert stored == len(made)
            mine = {"project": world.project_id}
            counted = await rows(
                engine,
                "SELECT payment_id, status, count(*) FROM tollwatch.payments "
                "WHERE project_id = :project AND NOT is_duplicate GROUP BY 1, 2",
                **mine,
            )
            told = {(row.payment_id, row.status) for row in made.values()}
            assert {(row[0], row[1]): row[2] for row in counted} == dict.fromkeys(told, 1)
            heads = await rows(engine, HEADS + " WHERE project_id = :project", **mine)
            best = {}
            for row in made.values():
                best[row.payment_id] = max(best.get(row.payment_id, -1), rank(row.status, row.origin))
            assert {row[0]: rank(row[1], row[2]) for row in heads} == best
        finally:
            await engine.dispose()

    asyncio.run(run())


async def test_breaker_heads_follow_time_not_arrival(engine, world, writer):
    late = audit(world, "breaker_closed", component="market", at=moment(10))
    early = audit(world, "breaker_opened", component="market", at=moment(20))
    await writer.write(Facts(audit_events=[late]))
    await writer.write(Facts(audit_events=[early, audit(world, "paused")]))
    assert await rows(engine, "SELECT component, state, ts FROM tollwatch.breaker_heads") == [
        ("market", "closed", late.ts)
    ]
    assert (await writer.write(Facts(audit_events=[late, early]))).total == 0


async def test_a_balance_head_never_goes_back_to_a_lower_slot(engine, world, writer):
    for amount, slot, ago in [(5_000_000, 100, 30), (4_000_000, 99, 20), (3_000_000, 101, 10)]:
        await writer.write(Facts(balance_samples=[sample(world, amount, slot, at=moment(ago))]))
    assert await rows(engine, "SELECT amount, slot FROM tollwatch.balance_heads") == [(3_000_000, 101)]
    assert await rows(engine, "SELECT count(*) FROM tollwatch.balance_samples") == [(3,)]


async def test_low_balance_is_told_once_per_crossing(engine, world, writer):
    line = [(20_000, 1), (9_999, 2), (9_000, 3), (20_000, 4), (1, 5), (0, 6)]
    samples = [sample(world, amount, slot, at=moment(100 - slot)) for amount, slot in line]
    await writer.write(Facts(balance_samples=samples[:3]))
    await asyncio.gather(*(writer.write(Facts(balance_samples=samples[3:])) for _ in range(4)))
    await writer.write(Facts(balance_samples=samples))
    told = await rows(
        engine,
        "SELECT ts, severity, entity_id, details FROM tollwatch.audit_events WHERE event_type = 'low_balance' ORDER BY ts",
    )
    assert [row[0] for row in told] == [samples[1].ts, samples[4].ts]
    assert told[0][1:] == (
        "warning",
        "wallet-acme-0",
        {"asset": "USDC", "amount": "9999", "threshold": "10000", "slot": 2},
    )
    assert [row[0] for row in await rows(engine, "SELECT status FROM tollwatch.balance_samples ORDER BY ts")] == [
        "sufficient",
        "low",
        "low",
        "sufficient",
        "low",
        "low",
    ]


async def test_a_wallets_own_threshold_comes_first(engine, world, writer):
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO tollwatch.wallet_thresholds VALUES (:wallet, :asset, 5000000)"),
            {"wallet": world.wallet_ids[0], "asset": world.assets["USDC"]},
        )
    await writer.write(
        Facts(
            balance_samples=[
                sample(world, 4_999_999, 1),
                sample(world, 10_000_000, 1, asset="SOL"),
                sample(world, 1, 1, agent=1),
            ]
        )
    )
    assert sorted(await rows(engine, "SELECT threshold, status FROM tollwatch.balance_heads")) == [
        (10_000, "low"),
        (5_000_000, "low"),
        (10_000_000, "sufficient"),
    ]


async def test_a_broken_row_stores_nothing_of_its_batch(engine, world, writer):
    with pytest.raises(DatabaseError):
        await writer.write(Facts(payments=[payment(world), payment(world, status="nonsense")]))
    assert await rows(engine, "SELECT count(*) FROM tollwatch.payments") == [(0,)]
    assert await rows(engine, HEADS) == []
    assert (await writer.write(Facts(payments=[payment(world)]))).total == 1


async def test_rows_outside_the_partitions_made_ahead_are_stored(engine, world, writer):
    old = moment(86400 * 60)
    await writer.write(Facts(payments=[payment(world, at=old)], api_requests=[request(world, at=old)]))
    assert await rows(engine, "SELECT ts FROM tollwatch.payments") == [(old,)]


async def test_a_database_that_is_gone_is_said_so(deadlines, world):
    nowhere = create_engine("postgresql://nobody@127.0.0.1:1/nowhere", deadlines)
    with pytest.raises(DatabaseUnavailable):
        await FactWriter(nowhere, deadlines).write(Facts(payments=[payment(world)]))
    await nowhere.dispose()


async def test_writers_with_crossing_keys_do_not_wait_for_each_other(engine, world, writer):
    ids = [uuid4() for _ in range(20)]
    lines = [
        [payment(world, payment_id=one, status=s) for one in ids] for s in ("pending", "verified", "settled", "failed")
    ]
    for i, line in enumerate(lines):
        random.Random(i).shuffle(line)
    done = await asyncio.wait_for(asyncio.gather(*(writer.write(Facts(payments=line)) for line in lines)), 20)
    assert [one.total for one in done] == [20] * 4
    assert {row[1] for row in await rows(engine, HEADS)} == {"settled"}
    assert {type(row[0]) for row in await rows(engine, HEADS)} == {UUID}
