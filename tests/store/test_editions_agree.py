"""The same workload gives the same rows, rollups, views and totals on every edition."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from api.app import create_app
from store import roles, rollups, totals
from store.edition import Edition
from store.engine import create_engine
from store.facts import Facts
from store.identity import uuid7
from store.settings import Settings
from store.writer import FactWriter
from tests.conftest import SERVERS
from tests.databases import ROOT
from tests.keys import create_key
from tests.store.world import audit, make_world, moment, payment, queued, request, sample

STATUSES = ("pending", "verified", "settled", "failed", "unknown", "retrying")
CLOCKS = {"recorded_at", "created_at", "updated_at", "seconds", "resolved_at"}
"""Columns that tell when something was written, or count up to now."""


TIMED = {
    "/v1/balances/history": {},
    "/v1/payments": {"duplicates": "true"},
    "/v1/requests": {},
    "/v1/audit-events": {},
    "/v1/audit-trail": {},
    "/v1/payments/hourly": {"group_by": "agent,asset,status,service,origin"},
    "/v1/requests/hourly": {"group_by": "agent,service,outcome"},
    "/v1/retry-health": {"group_by": "agent,service"},
    "/v1/spend": {"group_by": "agent,service,asset"},
}
READS = TIMED | {"/v1/agents": {}, "/v1/balances": {}, "/v1/queue": {}, "/v1/breakers": {}, "/v1/runway": {}}


def workload(world, base, seed):
    """Batches of facts over three days, with repeats, resends and late rows; the same for the same seed."""
    rng = random.Random(seed)

    def at(hours):
        return base - timedelta(milliseconds=int(hours * 3_600_000))

    def fresh(moment_):
        return uuid7(moment_, rng.randbytes(10))

    def number():
        return UUID(int=rng.getrandbits(128), version=4)

    batches, sent = [], []
    for _ in range(12):
        facts = Facts()
        for _ in range(25):
            when, agent, payment_id, request_id = at(rng.uniform(0, 70)), rng.randrange(2), number(), number()
            asset = world.assets[rng.choice(["USDC", "CASH"])]
            service = rng.choice(["http://market", "http://knowledge"])
            for step, status in enumerate(rng.sample(STATUSES, 2)):
                ts = when + timedelta(seconds=step)
                facts.payments.append(
                    payment(
                        world,
                        at=ts,
                        id=fresh(ts),
                        agent=agent,
                        payment_id=payment_id,
                        status=status,
                        amount=rng.randrange(1, 10**6),
                        asset_id=asset,
                        service=service,
                        retry_count=rng.randrange(2),
                        signature=rng.randbytes(64) if status == "settled" else None,
                    )
                )
            for attempt in range(1, rng.randrange(2, 4)):
                ts = when + timedelta(seconds=attempt)
                facts.api_requests.append(
                    request(
                        world,
                        at=ts,
                        id=fresh(ts),
                        agent=agent,
                        request_id=request_id,
                        attempt=attempt,
                        wallet_id=world.wallet_ids[agent],
                        outcome=rng.choice(["ok", "retrying", "failed", "skipped_open"]),
                        service=service,
                        payment_id=payment_id,
                        latency_ms=rng.randrange(5000),
                    )
                )
            kind = rng.choice(["breaker_opened", "breaker_half_opened", "breaker_closed", "paused"])
            facts.audit_events.append(audit(world, kind, at=when, id=fresh(when), agent=agent, component="market"))
            facts.queue_events.append(
                queued(
                    world,
                    at=when,
                    id=fresh(when),
                    agent=agent,
                    request_id=request_id,
                    state=rng.choice(["queued", "processed"]),
                )
            )
            facts.balance_samples.append(
                sample(world, rng.randrange(20_000), int(when.timestamp()), at=when, agent=agent)
            )
        sent.append(facts)
        batches.append(facts)
        if len(sent) > 3:
            batches.append(rng.choice(sent))
    return batches


async def everything(server, name, base, deadlines):
    """All that a reader sees after the workload, and the totals: {view: sorted rows}."""
    settings = Settings(database_url=server.url(name))
    engine = create_engine(settings.database_url, deadlines, pool_size=2)
    kind = Edition(server.edition)
    try:
        world = await make_world(engine, name="same")
        writer = FactWriter(engine, deadlines)
        for count, facts in enumerate(workload(world, base, 42)):
            await writer.write(facts)
            if count % 5 == 0:
                await refresh(engine, kind, settings)
        await refresh(engine, kind, settings)
        await totals.fold(engine, kind, settings)
        return await seen(settings, deadlines) | await answered(settings, base, deadlines)
    finally:
        await engine.dispose()


async def refresh(engine, kind, settings):
    now = datetime.now(UTC)
    await rollups.refresh_range(engine, kind, settings, now - settings.rollup_window, now)


async def seen(settings, deadlines):
    url = await roles.create_reader(settings, "same", deadlines)
    reader = create_engine(url, deadlines, pool_size=1)
    found = {}
    try:
        async with reader.connect() as connection:
            for file in sorted((ROOT / "sql" / "views").glob("*.sql")):
                rows = (await connection.execute(text(f"SELECT * FROM tollwatch_read.{file.stem}"))).mappings()
                found[file.stem] = sorted(
                    repr({key: value for key, value in row.items() if key not in CLOCKS}) for row in rows
                )
    finally:
        await reader.dispose()
    owner = create_engine(settings.database_url, deadlines, pool_size=1)
    async with owner.begin() as connection:
        await connection.execute(text(f"DROP OWNED BY {reader.url.username}"))
        await connection.execute(text(f"DROP ROLE {reader.url.username}"))
    await owner.dispose()
    return found


async def answered(settings, base, deadlines):
    """What the API answers to every read."""
    key = await create_key(settings, project="same", name="test", scopes=["read"], deadlines=deadlines)
    app = create_app(settings, deadlines)
    span = {"from": shown(base - timedelta(days=4)), "to": shown(base)}
    found = {}
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for path, asked in READS.items():
            params = asked | (span if path in TIMED else {})
            answer = await http.get(path, params=params, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200, (path, answer.text)
            found[path] = [json.dumps(without_clocks(item), sort_keys=True) for item in answer.json()["items"]]
    return found


def without_clocks(item):
    return {name: value for name, value in item.items() if name not in CLOCKS}


def shown(moment_):
    return moment_.isoformat().replace("+00:00", "Z")


async def test_the_same_workload_gives_the_same_answers(pytestconfig, deadlines):
    servers = pytestconfig.stash[SERVERS]
    if len(servers) < 2:
        pytest.skip("only one edition was found here: nothing to compare")
    hour = None
    while hour != rollups.floor_hour(datetime.now(UTC)):  # runway looks back from the present hour
        hour = rollups.floor_hour(datetime.now(UTC))
        answers = await asked_of_all(servers, deadlines)
    first, *others = answers
    assert {view for view, rows in answers[first].items() if not rows} == {"session_usage"}
    for other in others:
        for view, rows in answers[first].items():
            assert answers[other][view] == rows, f"{view}: {first} and {other} differ"


async def asked_of_all(servers, deadlines):
    base, answers = moment(5), {}
    for server in servers:
        name = server.clone()
        try:
            answers[server.id] = await everything(server, name, base, deadlines)
        finally:
            server.drop(name)
    return answers
