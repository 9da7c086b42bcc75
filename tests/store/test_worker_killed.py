"""Two writers and the rollup worker at full speed; the worker is killed again and again. Nothing differs at the end.

TOLLWATCH_TEST_SECONDS says for how long (5); from 30 on the worker dies ten times, else four.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import replace
from uuid import UUID

import pytest_asyncio
from sqlalchemy import text

from store import backfill, rollups, totals
from store.edition import Edition
from store.engine import create_engine, reading
from store.facts import Facts
from store.writer import FactWriter
from tests.databases import ROOT
from tests.store.test_backfill import TOTAL, settle
from tests.store.world import make_world, moment, payment, request, rows

SECONDS = float(os.environ.get("TOLLWATCH_TEST_SECONDS", "5"))
KILLS = 10 if SECONDS >= 30 else 4  # a start of the worker alone takes a second
DAY = 86400
FIGURES = "payments, duplicates, amount, retries"
GROUPS = "agent_id, asset_id, service, status, origin"
RAW = (
    f"SELECT date_bin('{{width}}', ts, '2000-01-03 00:00+00'), {GROUPS}, count(*) FILTER (WHERE NOT is_duplicate), "
    "count(*) FILTER (WHERE is_duplicate), coalesce(sum(amount) FILTER (WHERE NOT is_duplicate), 0), "
    "coalesce(sum(retry_count) FILTER (WHERE NOT is_duplicate), 0) FROM tollwatch.payments "
    "GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"
)


def batch(world, rng, reach):
    """Some payments and requests of any age within `reach` days; payments repeat."""
    payments = [
        payment(
            world,
            at=moment(rng.choice([rng.uniform(1, 7200), rng.uniform(1, reach * DAY)])),
            payment_id=UUID(int=rng.randrange(5000)),
            status=rng.choice(["pending", "settled", "failed"]),
            amount=rng.randrange(10**6),
            retry_count=rng.randrange(3),
            agent=rng.randrange(2),
        )
        for _ in range(20)
    ]
    requests = [request(world, at=moment(rng.uniform(1, reach * DAY)), attempt=rng.randrange(1, 3)) for _ in range(10)]
    return Facts(payments=payments, api_requests=requests)


async def killed_again_and_again(url, engine, until):
    """Run the worker, kill it with -9, and its server processes with it; again."""
    for number in range(KILLS):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.store.rollup_worker", url, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert await asyncio.wait_for(worker.stdout.readline(), 60) == b"ready\n"
            left = max(0.0, until - time.monotonic()) / (KILLS - number)
            await asyncio.sleep(random.Random(number).uniform(0.2, 1) * max(left, 0.2))
        finally:
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
        # A server process finds out only when it next writes to its client.
        async with engine.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name = 'worker'"
                )
                if number % 2
                else text("SELECT 1")
            )


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, replace(deadlines, read_statement=60, lock=30), pool_size=6)
    yield made
    await made.dispose()


async def test_nothing_is_lost_or_doubled_when_the_worker_dies(database_url, engine, edition, settings, deadlines):
    kind = Edition(edition)
    world = await make_world(engine)
    seen, stop = [], asyncio.Event()
    # A row that commits while its bucket is materialised for the first time is hidden until the next refresh. That is
    # once an hour, and here before the watch begins.
    await FactWriter(engine, deadlines).write(batch(world, random.Random(0), 6.9))
    await FactWriter(engine, deadlines).write(
        Facts(payments=[payment(world, at=moment(5400))], api_requests=[request(world, at=moment(5400))])
    )
    await settle(engine, kind, settings)
    hour = rollups.floor_hour(moment(0))

    async def write(seed):
        rng, writer = random.Random(seed), FactWriter(engine, deadlines)
        while not stop.is_set():
            await writer.write(batch(world, rng, 6.9))

    async def import_old():
        rng, importer = random.Random(3), backfill.BackfillWriter(engine, deadlines, kind, settings)
        while not stop.is_set():
            await importer.write(batch(world, rng, 40))
            await asyncio.sleep(0.2)

    async def hold_open():
        """A writer's transaction that stays open across refreshes."""
        while not stop.is_set():
            async with engine.connect() as connection:
                await connection.execute(text(HELD), {"ts": moment(5 * DAY), "agent": world.agent_ids[0]} | held(world))
                await asyncio.sleep(0.5)
                await connection.commit()

    async def watch():
        while not stop.is_set():
            seen.extend(await rows(engine, TOTAL))

    tasks = [asyncio.create_task(work) for work in (write(1), write(2), import_old(), hold_open(), watch())]
    killer = asyncio.create_task(killed_again_and_again(database_url, engine, time.monotonic() + SECONDS))
    try:
        done, _ = await asyncio.wait([killer, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stop.set()
        await asyncio.gather(killer, *tasks)
    counted = [row for row in seen if row[0] is not None]
    assert counted == sorted(counted) or hour != rollups.floor_hour(moment(0)), "a total fell"

    await everything_adds_up(engine, kind, settings)


async def everything_adds_up(engine, kind, settings):
    await settle(engine, kind, settings)
    await rollups.refresh(engine, kind, settings)
    for width, rollup in (("1 hour", "payments_hourly"), ("1 day", "payments_daily")):
        found = await rows(
            engine, f"SELECT bucket, {GROUPS}, {FIGURES} FROM tollwatch.{rollup} ORDER BY 1, 2, 3, 4, 5, 6"
        )
        assert found == await rows(engine, RAW.format(width=width))
        async with reading(engine) as connection:
            assert await rollups.exact_until(connection, kind, rollup) > moment(300)
    await totals.fold(engine, kind, settings)
    raw = "SELECT count(*), sum(amount) FROM tollwatch.payments WHERE NOT is_duplicate"
    assert await rows(engine, TOTAL) == await rows(engine, raw)
    assert await totals.rebuild(engine, kind, settings) == 0


HELD = (
    "INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, agent_id, status, amount, asset_id, service, "
    "retry_count, backoff_ms, is_duplicate, origin) VALUES "
    "(:project, :ts, gen_random_uuid(), gen_random_uuid(), :agent, 'settled', 1, :asset, 'held', 0, 0, false, 'agent')"
)


def held(world):
    return {"project": world.project_id, "asset": world.assets["USDC"]}
