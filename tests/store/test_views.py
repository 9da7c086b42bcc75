"""The views answer what an operator asks: told a small story, they give the figures that one can count by hand."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from store.engine import create_engine
from store.facts import Facts
from store.writer import FactWriter
from tests.store.world import audit, make_world, moment, payment, queued, request, rows, sample


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=2)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def world(engine):
    return await make_world(engine)


@pytest.fixture
def write(engine, deadlines):
    writer = FactWriter(engine, deadlines)

    async def store(**facts):
        return await writer.write(Facts(**facts))

    return store


def seconds(number):
    return moment(1000) + timedelta(seconds=number)


async def test_breaker_intervals_and_resolutions_in_any_order(engine, world, write):
    base = moment(1000)
    told = [
        ("breaker_opened", 0),
        ("breaker_half_opened", 30),
        ("breaker_opened", 31),
        ("breaker_half_opened", 61),
        ("breaker_closed", 62),
        ("breaker_opened", 90),
    ]
    events = [audit(world, kind, component="market", at=base + timedelta(seconds=at)) for kind, at in told]
    shuffled = events[:]
    random.Random(5).shuffle(shuffled)
    for event in shuffled:
        await write(audit_events=[event])
    found = await rows(
        engine,
        "SELECT state, extract(epoch FROM ended_at - started_at)::int FROM tollwatch.breaker_intervals ORDER BY started_at",
    )
    assert found == [("open", 30), ("half_open", 1), ("open", 30), ("half_open", 1), ("closed", 28), ("open", None)]
    resolved = await rows(
        engine,
        "SELECT event_id, resolved_at, resolved_by, automatic FROM tollwatch.audit_resolutions ORDER BY event_ts",
    )
    closed = events[4]
    assert resolved == [(events[i].id, closed.ts, f"breaker_closed {closed.id}", True) for i in (0, 2)]


async def test_a_persons_resolution_stays(engine, world, write):
    opened, closed = audit(world, "breaker_opened", at=moment(60)), audit(world, "breaker_closed", at=moment(30))
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO tollwatch.audit_resolutions VALUES (:project, :id, :ts, 'ann', now(), 'looked', false)"),
            {"project": world.project_id, "id": opened.id, "ts": opened.ts},
        )
    await write(audit_events=[opened, closed])
    assert await rows(engine, "SELECT resolved_by FROM tollwatch.audit_resolutions") == [("ann",)]


async def test_the_queue_is_what_was_queued_and_not_taken_up(engine, world, write):
    one, two, three = uuid4(), uuid4(), uuid4()
    await write(queue_events=[queued(world, request_id=two, state="processed", at=moment(10))])
    await write(queue_events=[queued(world, request_id=r, at=moment(60)) for r in (one, two, three)])
    await write(queue_events=[queued(world, request_id=three, state="dropped", at=moment(5), reason=None)])
    assert await rows(engine, "SELECT request_id, reason FROM tollwatch.queue_state") == [(one, "funds")]
    again = queued(world, request_id=three, at=moment(1))
    await write(queue_events=[again])
    assert {row[0] for row in await rows(engine, "SELECT request_id FROM tollwatch.queue_state")} == {one, three}


async def test_open_payments(engine, world, write):
    lost, done = uuid4(), uuid4()
    await write(payments=[payment(world, payment_id=p, status="pending", at=moment(90)) for p in (lost, done)])
    await write(payments=[payment(world, payment_id=lost, status="unknown"), payment(world, payment_id=done)])
    assert await rows(engine, "SELECT payment_id, status FROM tollwatch.open_payments") == [(lost, "unknown")]


async def test_runway_is_balance_over_outflow(engine, world, write):
    base = moment(2800)
    amounts = [10_000, 9_000, 12_000, 11_000]  # 2,000 flowed out and 3,000 in, over three quarters of an hour
    await write(
        balance_samples=[
            sample(world, amount, i, at=base + timedelta(seconds=900 * i)) for i, amount in enumerate(amounts)
        ]
    )
    await write(balance_samples=[sample(world, 5, 0, agent=1)])
    found = await rows(
        engine,
        "SELECT outflow, observed_hours::float, burn_per_hour::float, runway_hours::float FROM tollwatch.runway ORDER BY outflow DESC",
    )
    assert found[0] == pytest.approx((2000, 0.75, 2000 / 0.75, 11_000 * 0.75 / 2000))
    assert found[1][0] == 0
    assert found[1][3] is None
    assert await rows(
        engine, "SELECT change FROM tollwatch.balance_samples WHERE agent_id = :a ORDER BY ts", a=world.agent_ids[0]
    ) == [
        (None,),
        (-1000,),
        (3000,),
        (-1000,),
    ]


async def test_late_samples_have_no_change(engine, world, write):
    await write(balance_samples=[sample(world, 100, 10, at=moment(50))])
    await write(balance_samples=[sample(world, 70, 9, at=moment(60)), sample(world, 90, 11, at=moment(40))])
    assert await rows(engine, "SELECT slot, change FROM tollwatch.balance_samples ORDER BY slot") == [
        (9, None),
        (10, None),
        (11, -10),
    ]


async def test_retry_health_counts_attempts_and_money(engine, world, write):
    service, request_id = "http://flaky", uuid4()
    paid = payment(world, service=service, amount=2500, retry_count=1)
    await write(
        api_requests=[
            request(
                world,
                service=service,
                request_id=request_id,
                attempt=1,
                outcome="retrying",
                backoff_ms=0,
                at=moment(50),
            ),
            request(
                world,
                service=service,
                request_id=request_id,
                attempt=2,
                outcome="ok",
                backoff_ms=250,
                paid=True,
                payment_id=paid.payment_id,
                at=moment(49),
            ),
            *(request(world, service=service, outcome="skipped_open", at=moment(40 - i)) for i in range(3)),
        ],
        payments=[paid],
    )
    found = await rows(
        engine,
        "SELECT sum(attempts), sum(retries), sum(retry_successes), sum(skipped), sum(backoff_ms), sum(retry_amount), "
        "sum(avoided_amount) FROM tollwatch.retry_health WHERE service = :service",
        service=service,
    )
    assert [tuple(map(int, row)) for row in found] == [(2, 1, 1, 3, 250, 2500, 7500)]


async def test_the_audit_trail_has_one_line_per_request_in_the_order_of_time(engine, world, write):
    wallet, request_id = world.wallet_ids[0], uuid4()
    paid = payment(world, amount=300, request_id=request_id, signature=b"s" * 64, at=seconds(11))
    await write(
        balance_samples=[sample(world, 10**6, 1, at=seconds(0)), sample(world, 10**6 - 300, 2, at=seconds(20))],
        audit_events=[audit(world, "paused", at=seconds(30)), audit(world, "resumed", at=seconds(50))],
        queue_events=[queued(world, at=seconds(40), asset_id=world.assets["USDC"], balance=700)],
        payments=[paid],
        api_requests=[
            request(world, request_id=request_id, attempt=1, outcome="retrying", wallet_id=wallet, at=seconds(9)),
            request(
                world,
                request_id=request_id,
                attempt=2,
                outcome="ok",
                wallet_id=wallet,
                paid=True,
                payment_id=paid.payment_id,
                at=seconds(11),
            ),
        ],
    )
    found = await rows(
        engine,
        "SELECT kind, what, success, attempts, payment_status, amount, spent, balance_before, balance_after "
        "FROM tollwatch.audit_trail WHERE project_id = :project AND ts >= :start ORDER BY ts, id",
        project=world.project_id,
        start=seconds(-5),
    )
    nothing = (None,) * 3
    assert found == [
        ("request", "ok", True, 2, "settled", 300, 300, 10**6, 10**6 - 300),
        ("audit", "paused", *nothing, None, None, None, None),
        ("queue", "queued", *nothing, None, None, 700, None),
        ("audit", "resumed", *nothing, None, None, None, None),
    ]


async def test_session_usage_counts_what_settled(engine, world, write):
    session = uuid4()
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO tollwatch.wallet_sessions (project_id, id, agent_id, wallet_id, token_hash, scope, tx_used, "
                "status, delegated_at, expires_at) VALUES (:project, :id, :agent, :wallet, 'x', '{\"tx_limit\": 3}', 2, "
                "'active', now() - interval '1 hour', now() - interval '1 minute')"
            ),
            {"project": world.project_id, "id": session, "agent": world.agent_ids[0], "wallet": world.wallet_ids[0]},
        )
    await write(
        payments=[payment(world, session_id=session) for _ in range(3)]
        + [payment(world, session_id=session, status="failed")]
    )
    assert await rows(engine, "SELECT status, tx_limit, tx_used, tx_settled FROM tollwatch.session_usage") == [
        ("expired", 3, 2, 3)
    ]


async def test_latency_quantiles_are_within_two_percent(engine, world, write):
    rng = random.Random(11)
    latencies = sorted(int(rng.lognormvariate(5, 1)) for _ in range(4000))
    await write(api_requests=[request(world, latency_ms=ms, at=moment(3600 + i)) for i, ms in enumerate(latencies)])
    for quantile in (0.5, 0.95, 0.99):
        [(found,)] = await rows(
            engine,
            "SELECT tollwatch_read.latency_quantile(:q, array_agg(latency_bucket), array_agg(requests)) FROM ("
            "SELECT CASE WHEN latency_ms < 1 THEN -1 ELSE floor(20 * log(latency_ms::float8))::int END AS latency_bucket, "
            "count(*) AS requests FROM tollwatch.api_requests GROUP BY 1) h",
            q=quantile,
        )
        exact = latencies[int(quantile * len(latencies)) - 1]
        assert abs(found - exact) / exact < 0.02, (quantile, found, exact)
