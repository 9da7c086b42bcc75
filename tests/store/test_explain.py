"""`tollwatch db explain`: every named statement and view has a plan on every edition, or says why not."""

from __future__ import annotations

import re

import pytest
import pytest_asyncio

from store import explain
from store.engine import create_engine
from store.errors import NotExplained, NotFound
from store.named_sql import all_queries
from tests.store.world import make_world, rows

ELSEWHERE = {
    "plain": r"timescaledb|public\.(\w+_policy|drop_chunks)",
    "apache": r"tollwatch_internal\.ensure_partitions|_timescaledb_catalog|public\.add_continuous_aggregate_policy",
    "community": r"tollwatch_internal\.",
}
"""What statements name that are for other editions, or (on the Apache edition) have nothing to do here."""
NO_PLAN = r"CALL|CREATE SCHEMA|DROP|LOCK"
OF_A_RUN = r"pg_temp\.suspects"
"""A table that only a run of `db rebuild` has."""
COMMUNITY_ONLY = ("backfilled_hours", "forget_backfilled")
"""They name a column that the log of dirty hours has on community alone."""
READS = ("read_", "metrics_", "status_", "sampled_")


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=1)
    await make_world(made)
    yield made
    await made.dispose()


async def outcomes(engine, *, analyze=False):
    found = {}
    for name in explain.names():
        try:
            found[name] = await explain.explain(engine, name, analyze=analyze)
        except NotExplained as refused:
            found[name] = str(refused)
    return found


async def contents(engine):
    """Every row of every plain table of ours, with the transaction that wrote it."""
    named = "SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace::regnamespace::text ~ '^tollwatch' AND relkind = 'r'"
    tables = sorted(name for (name,) in await rows(engine, named))
    return {table: await rows(engine, f"SELECT xmin::text, t::text FROM {table} t ORDER BY 2") for table in tables}


def may_lack(name, edition, error):
    """Whether a statement has no plan for a reason that its text shows."""
    statement = all_queries()[name].text
    if re.match(NO_PLAN, statement):
        return "has no plan: EXPLAIN takes" in error
    if "has no plan of its own" in error:
        return re.search(r"\{\w*(keys|head|insert|relation|totals|columns)\}", statement) is not None
    if re.search(OF_A_RUN, statement):
        return "suspects" in error
    if name in COMMUNITY_ONLY:
        return edition != "community" and 'column "id"' in error
    if name == "slow_statements":
        return "pg_stat_statements" in error
    return bool(re.search(ELSEWHERE[edition], statement)) and f"not for the {edition} edition" in error


async def test_every_statement_and_view_has_a_plan_or_says_why_not(engine, edition):
    for name, found in (await outcomes(engine)).items():
        if isinstance(found, str):
            assert may_lack(name, edition, found), found
        else:
            assert re.search(r"cost=[\d.]+", "\n".join(found)), name


async def test_analyze_runs_reads_and_nothing_else(engine, edition):
    before = await contents(engine)
    for name, found in (await outcomes(engine, analyze=True)).items():
        if isinstance(found, str):
            is_change = "leave out --analyze" in found and not name.startswith(READS) and "." not in name
            assert is_change or may_lack(name, edition, found), found
        else:
            assert "actual" in "\n".join(found), name
            assert name not in all_queries() or re.match(r"SELECT|WITH", all_queries()[name].text), name
    assert await contents(engine) == before


async def test_what_would_write_is_refused_with_analyze(engine):
    for name in ("put_agent", "store_payments", "fold_state", "lock_migrations", "set_local", "stage_payments"):
        assert await explain.explain(engine, name)
        with pytest.raises(NotExplained, match="leave out --analyze"):
            await explain.explain(engine, name, analyze=True)


async def test_the_transaction_is_read_only_whatever_a_plan_calls(engine, monkeypatch):
    """Should the check ever miss a function that writes, PostgreSQL refuses it."""

    async def let_through(*_):
        pass

    monkeypatch.setattr(explain, "_check_reads", let_through)
    with pytest.raises(Exception, match="read-only transaction"):
        await explain.explain(engine, "ensure_project", analyze=True)
    assert await rows(engine, "SELECT count(*) FROM tollwatch.projects") == [(1,)]


async def test_a_plan_is_one_of_a_project_that_is_there(engine):
    ((project,),) = await rows(engine, "SELECT id FROM tollwatch.projects")
    plan = "\n".join(await explain.explain(engine, "read_balances"))
    assert f"project_id = {project})" in plan
    assert "status = " not in plan, "optional filters are off"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("read_payment", "read_payments"), ("payments_hourly", "tollwatch.payments_hourly"), ("zz", "sql/")],
)
async def test_an_unknown_name_says_what_is_near(plain_server, deadlines, asked, hint):
    engine = create_engine(plain_server.admin_url, deadlines)
    with pytest.raises(NotFound, match="no statement or view") as refused:
        await explain.explain(engine, asked)
    assert hint in str(refused.value)
    await engine.dispose()
