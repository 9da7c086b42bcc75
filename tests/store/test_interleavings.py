"""Whatever happens in whatever order, rollups, heads, views and totals are what the facts add up to.

Every example is a history on a database of its own: writes (new, again, late, backfilled), refreshes, folds, retention,
columnstore, rebuilds, pruning, restarts. After each step everything is compared with `tests.store.model`.
TOLLWATCH_TEST_EXAMPLES sets the number of histories (25).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import text

from store import backfill, heads, partitions, policies, retention, rollups, totals
from store.edition import Edition
from store.engine import create_engine, reading
from store.facts import Facts
from store.horizons import RELATIONS, ROLLUPS
from store.horizons import check as check_horizons
from store.identity import uuid7
from store.settings import Settings
from store.writer import FactWriter
from tests.store.model import DAY, HOUR, KEYS, RELATION, VALUES, Model, bucket_of
from tests.store.world import audit, make_world, payment, queued, request, rows, sample

EXAMPLES = int(os.environ.get("TOLLWATCH_TEST_EXAMPLES", "25"))
KEPT = 40 * DAY
SHORT = 13 * DAY
LIMITS = {
    "late_window": DAY,
    "spool_max_age": HOUR,
    "rollup_window": 4 * DAY,
    "columnstore_after": 5 * DAY,
    "retain_rollups": 60 * DAY,
}
OPERATIONS = (
    *("write",) * 5,
    *("backfill",) * 4,
    *("backfill_and_refresh",) * 2,
    *("refresh",) * 4,
    *("fold",) * 3,
    *("retention",) * 2,
    "columnstore",
    "prune",
    "prune",
    "restart",
    "rebuild_heads",
    "rebuild_rollups",
    "rebuild_totals",
)
HEADS = {
    "payment_heads": "SELECT payment_id::text, told, status, origin, ts, amount, asset_id, agent_id, opened_ts, last_ts, "
    "request_id::text, signature FROM tollwatch.payment_heads",
    "payment_settlements": "SELECT signature, payment_id::text FROM tollwatch.payment_settlements",
    "queue_heads": "SELECT agent_id, request_id::text, state, ts, queued_ts FROM tollwatch.queue_heads",
    "balance_heads": "SELECT wallet_id, asset_id, slot, ts, amount, status FROM tollwatch.balance_heads",
    "breaker_heads": "SELECT agent_id, component, state, ts, event_id::text FROM tollwatch.breaker_heads",
}
TOTALS = {
    "payment": ("payment_totals", "payments_hourly", "payments", 4, "payments, amount"),
    "request": ("request_totals", "requests_hourly", "api_requests", 3, "requests, retries, latency_ms_sum"),
    "latency": ("latency_totals", "request_latency_hourly", "api_requests", 3, "requests"),
    "audit": ("audit_totals", "audit_hourly", "audit_events", 4, "events"),
}
TOTAL_KEYS = {
    "payment": "agent_id, asset_id, status, origin",
    "request": "agent_id, service, outcome",
    "latency": "agent_id, service, latency_bucket",
    "audit": "agent_id, event_type, severity, component",
}
CLEAN = timedelta(minutes=2)


def limits(url, retained=KEPT):
    kept = {relation.retention: retained for relation in RELATIONS}
    return Settings(database_url=url, **LIMITS, **kept)


@pytest.fixture(scope="module")
def template(server, deadlines_of_module):
    """A migrated database with this module's limits in force, to clone for every history."""
    name = server.clone()

    async def prepare():
        settings = limits(server.url(name))
        check_horizons(settings)
        check_horizons(limits(server.url(name), SHORT))
        engine = create_engine(settings.database_url, deadlines_of_module, pool_size=1)
        async with engine.begin() as connection:
            await policies.apply(connection, settings, Edition(server.edition))
        now = datetime.now(UTC)
        if server.edition == "plain":
            for relation in RELATIONS:
                await partitions.ensure(engine, relation.name, now - KEPT - 8 * DAY, now + 2 * DAY)
        await engine.dispose()

    asyncio.run(prepare())
    yield name
    server.drop(name)


@pytest.fixture(scope="module")
def deadlines_of_module():
    from store.deadlines import Deadlines  # noqa: PLC0415

    return replace(Deadlines(), read_statement=30)


class History:
    """One database, one model of it, and what can happen to both."""

    def __init__(self, server, name, deadlines):
        self.edition = Edition(server.edition)
        self.deadlines = deadlines
        self.settings = limits(server.url(name))
        self.begun = datetime.now(UTC)
        self.sent: list[Facts] = []
        self.clean = False
        self.before: dict = {}
        self.open()

    def open(self):
        self.engine = create_engine(self.settings.database_url, self.deadlines, pool_size=3)
        self.writer = FactWriter(self.engine, self.deadlines)
        self.importer = backfill.BackfillWriter(self.engine, self.deadlines, self.edition, self.settings)

    async def begin(self):
        self.model = Model(await make_world(self.engine))
        # What is found is read past everything under test, and without its cost: there are thirty reads a step.
        self.eye = psycopg.connect(self.settings.database_url, autocommit=True, prepare_threshold=None)

    async def end(self):
        self.eye.close()
        await self.engine.dispose()

    # What can happen.

    async def write(self, rng):
        """A batch that ingest takes: new, late, and some that it had before."""
        await self._send(self.writer, self._batch(rng, DAY))

    async def backfill(self, rng):
        await self._send(self.importer, self._batch(rng, self._reach()))

    async def backfill_and_refresh(self, rng):
        await self.backfill(rng)
        await self.importer.refresh()

    async def refresh(self, _rng):
        await rollups.refresh(self.engine, self.edition, self.settings)
        if self.edition is Edition.COMMUNITY:
            await self._run_jobs("policy_refresh_continuous_aggregate")
            await rollups.refresh(self.engine, self.edition, self.settings)
        self.clean = True

    async def fold(self, _rng):
        await totals.fold(self.engine, self.edition, self.settings)

    async def retention(self, _rng):
        # Facts go for good, so whatever is pending for them must be in first: production has weeks for that.
        await self.refresh(None)
        self.settings = limits(self.settings.database_url, SHORT)
        await self.restart(None)
        async with self.engine.begin() as connection:
            await policies.apply(connection, self.settings, self.edition)
        await retention.expire(self.engine, self.edition, self.settings)
        if self.edition is Edition.COMMUNITY:
            await self._run_jobs("policy_retention")

    async def columnstore(self, _rng):
        if self.edition is Edition.COMMUNITY:
            await self._run_jobs("policy_compression")

    async def prune(self, _rng):
        now = datetime.now(UTC)
        await heads.prune(self.engine, self.edition, self.settings)
        self.model.prune(now - self.settings.retain_payments - 8 * DAY, now - self.settings.retain_queue - 2 * DAY)

    async def restart(self, _rng):
        await self.engine.dispose()
        self.open()

    async def rebuild_heads(self, _rng):
        for rebuilt in await heads.rebuild(self.engine, self.settings):
            assert rebuilt.mended == 0, rebuilt

    async def rebuild_rollups(self, _rng):
        await rollups.rebuild(self.engine, self.edition, self.settings)

    async def rebuild_totals(self, _rng):
        await self.refresh(None)
        assert await totals.rebuild(self.engine, self.edition, self.settings) == 0

    async def _send(self, writer, facts):
        stored = await writer.write(facts)
        assert stored.new == self.model.write(facts)
        self.sent.append(facts)
        self.clean = False

    async def _run_jobs(self, procedure):
        found = await rows(
            self.engine,
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = :name ORDER BY job_id",
            name=procedure,
        )
        async with self.engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for (job,) in found:
                await autocommit.execute(text("CALL public.run_job(:job)"), {"job": job})

    def _reach(self):
        return self.settings.retain_payments - backfill.EDGE - HOUR

    def _batch(self, rng, reach):
        facts = self._new_facts(rng, reach)
        if self.sent and rng.random() < 0.5:
            oldest = self.begun - reach
            for relation, again in rng.choice(self.sent).by_relation():
                getattr(facts, relation).extend(row for row in again if row.ts >= oldest and rng.random() < 0.5)
        return facts

    def _new_facts(self, rng, reach):
        world, facts = self.model.world, Facts()

        def at():
            hours = rng.choice([0, 1, 2, rng.randrange(24), rng.randrange(24), *[rng.uniform(0, reach / HOUR)] * 4])
            hours = min(int(hours), int(reach / HOUR) - 1)
            # Half an hour from every limit, for the clock moves on meanwhile.
            return self.begun - hours * HOUR - timedelta(minutes=30, milliseconds=rng.randrange(1000))

        def identity(ts, pool, count):
            return {"at": ts, "id": uuid7(ts, rng.randbytes(10)), "agent": rng.randrange(2)} | (
                {pool: UUID(int=rng.randrange(count) + 1)} if pool else {}
            )

        for _ in range(rng.randrange(7)):
            ts, settled = at(), rng.random() < 0.5
            facts.payments.append(
                payment(
                    world,
                    **identity(ts, "payment_id", 6 if rng.random() < 0.5 else 10**6),
                    status="settled" if settled else rng.choice(["pending", "failed", "unknown", "reverted"]),
                    origin=rng.choice(["agent", "facilitator", "import"]),
                    amount=rng.randrange(1000),
                    asset_id=world.assets[rng.choice(["USDC", "CASH"])],
                    retry_count=rng.randrange(3),
                    fee_lamports=rng.choice([None, 5000]),
                    signature=bytes([rng.randrange(9)]) * 64 if settled and rng.random() < 0.7 else None,
                    request_id=rng.choice([None, UUID(int=rng.randrange(99))]),
                )
            )
        for _ in range(rng.randrange(5)):
            facts.api_requests.append(
                request(
                    world,
                    **identity(at(), "request_id", 50),
                    attempt=rng.randrange(1, 4),
                    outcome=rng.choice(["ok", "failed", "retrying"]),
                    latency_ms=rng.choice([None, 0, rng.randrange(5000)]),
                    backoff_ms=rng.randrange(100),
                    paid=rng.random() < 0.5,
                    response_bytes=rng.choice([None, rng.randrange(1000)]),
                )
            )
        for _ in range(rng.randrange(4)):
            kind = rng.choice(["breaker_opened", "breaker_half_opened", "breaker_closed", "paused"])
            facts.audit_events.append(audit(world, kind, **identity(at(), None, 0), component=rng.choice([None, "m"])))
        for _ in range(rng.randrange(3)):
            state = rng.choice(["queued", "processed", "dropped"])
            facts.queue_events.append(queued(world, **identity(at(), "request_id", 20), state=state))
        for _ in range(rng.randrange(4)):
            ts, amount = at(), rng.choice([5000, 9999, 10_000, 20_000])
            agent = 0  # a crossing is told of as agent 0's: see Model._cross
            facts.balance_samples.append(
                sample(world, amount, int(ts.timestamp()) + rng.randrange(9), at=ts, agent=agent)
            )
        return facts

    # What must hold.

    async def check(self, step):
        heads_ = self.model.heads()
        for table, statement in HEADS.items():
            assert sorted(self._rows(statement), key=repr) == sorted(heads_[table], key=repr), (step, table)
        self._check_views(step)
        pending = set()
        async with reading(self.engine) as connection:
            for rollup in ROLLUPS:
                until = await rollups.exact_until(connection, self.edition, rollup.name)
                if until < self.begun - CLEAN:
                    pending.add(rollup.relation)
                self._check_rollup(rollup, until, step)
        assert not (self.clean and pending), (step, pending)
        self._check_totals(pending, step)

    def _rows(self, statement):
        return self.eye.execute(statement).fetchall()

    def _check_rollup(self, rollup, until, step):
        base = rollup.name.rpartition("_")[0]
        keys = KEYS[base].count(",") + 2
        select = f"SELECT bucket, {KEYS[base]}, {VALUES[base]} FROM tollwatch.{rollup.name}"
        held = {row[:keys]: list(row[keys:]) for row in self._rows(select)}
        wanted = self.model.rollup(rollup.name)
        live = bucket_of(datetime.now(UTC), HOUR) - HOUR
        for key in held.keys() | wanted.keys():
            exact = key[0] + rollup.bucket <= until or (not rollup.hourly and key[0] >= live)
            if exact or self.clean:
                assert held.get(key) == wanted.get(key), (step, rollup.name, key, until)

    def _check_views(self, step):
        still_open = {key for key, head in self.model.payments.items() if head["best"][0] > -100}
        assert {row[0] for row in self._rows("SELECT payment_id FROM tollwatch.open_payments")} == still_open, step
        waiting = {key for key, head in self.model.queue.items() if head["latest"][2] == "queued"}
        assert set(self._rows("SELECT agent_id, request_id FROM tollwatch.queue_state")) == waiting, step
        if self.clean:
            spent = Counter()
            for (_, agent, asset, service, status, _), row in self.model.hourly["payments"].items():
                if status == "settled":
                    spent[agent, asset, service] += row[2]
            view = "SELECT agent_id, asset_id, service, sum(amount) FROM tollwatch.spend_by_service GROUP BY 1, 2, 3"
            assert {row[:3]: row[3] for row in self._rows(view)} == dict(spent), step

    def _check_totals(self, pending, step):
        wanted = self.model.totals()
        for family, (base, rollup, relation, keys, columns) in TOTALS.items():
            select = (
                f"SELECT {TOTAL_KEYS[family]}, {', '.join(f'sum({c})' for c in columns.split(', '))} FROM ("
                f"SELECT {TOTAL_KEYS[family]}, {columns} FROM tollwatch.{base} UNION ALL "
                f"SELECT {TOTAL_KEYS[family]}, {columns} FROM tollwatch.{rollup} WHERE bucket >= "
                f"(SELECT folded_until FROM tollwatch.totals_state WHERE relation = '{relation}')) parts "
                f"GROUP BY {TOTAL_KEYS[family]}"
            )
            held = {row[:keys]: list(row[keys:]) for row in self._rows(select)}
            if relation in pending:
                for key, values in held.items():
                    assert all(a <= b for a, b in zip(values, wanted[family][key], strict=True)), (step, family, key)
            else:
                assert held == wanted[family], (step, family)
            for key, values in self.before.get(family, {}).items():
                assert all(a <= b for a, b in zip(values, held[key], strict=True)), (step, family, key, "fell")
            self.before[family] = held


@examples(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    # A history takes as long as a hundred other examples: to shrink one would take minutes. It is short as it is.
    phases=[Phase.generate],
    report_multiple_bugs=False,
    print_blob=True,
)
@given(plan=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 10**6)), min_size=3, max_size=14))
def test_every_history_adds_up(server, template, deadlines_of_module, plan):
    name = server.create(template=template)

    async def live():
        history = History(server, name, deadlines_of_module)
        try:
            await history.begin()
            for number, (operation, seed) in enumerate([*plan, ("refresh", 0)]):
                await getattr(history, operation)(random.Random(seed))
                await history.check(f"{number} {operation}")
        finally:
            await history.end()

    try:
        asyncio.run(live())
    finally:
        server.drop(name)


def test_relations_of_the_model_are_ours():
    assert set(RELATION.values()) <= {relation.name for relation in RELATIONS}
    assert set(KEYS) == {rollup.name.rpartition("_")[0] for rollup in ROLLUPS}
