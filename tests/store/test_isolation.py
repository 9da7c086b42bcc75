"""The reader of one project: its own rows through the barrier views, and nothing else."""

from __future__ import annotations

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors as pg
from sqlalchemy import text

from store import roles
from store.engine import create_engine
from store.errors import NotFound
from store.facts import Facts
from store.writer import FactWriter
from tests.databases import ROOT
from tests.store.world import audit, make_world, moment, payment, queued, request, rows, sample

EVERYONES = {"assets"}
"""Views that also show what belongs to nobody."""
VIEWS = sorted(file.stem for file in (ROOT / "sql" / "views").glob("*.sql") if file.stem not in EVERYONES)


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=2)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def reader(engine, settings, deadlines):
    """A connection as the reader of `mine`, in a database that also holds `theirs`. The role is dropped afterwards."""
    writer = FactWriter(engine, deadlines)
    for name in ("mine", "theirs"):
        world = await make_world(engine, name=name, agents=1)
        await writer.write(
            Facts(
                payments=[
                    payment(world, service=f"http://{name}"),
                    payment(world, status="pending", service=f"http://{name}"),
                ],
                api_requests=[request(world, service=f"http://{name}")],
                audit_events=[audit(world, "breaker_opened", component=name)],
                queue_events=[queued(world)],
                balance_samples=[sample(world, 2, 1), sample(world, 1, 2, at=moment(50))],
            )
        )
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO tollwatch.wallet_sessions (project_id, id, agent_id, wallet_id, token_hash, status) "
                    "VALUES (:project, gen_random_uuid(), :agent, :wallet, :hash, 'active')"
                ),
                {
                    "project": world.project_id,
                    "agent": world.agent_ids[0],
                    "wallet": world.wallet_ids[0],
                    "hash": name.encode(),
                },
            )
    url = await roles.create_reader(settings, "mine", deadlines)
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    yield connection
    role = connection.info.user
    await connection.close()
    async with engine.begin() as owner:
        await owner.execute(text(f"DROP OWNED BY {role}"))
        await owner.execute(text(f"DROP ROLE {role}"))


async def test_every_view_shows_the_projects_own_rows_and_no_others(reader):
    for view in VIEWS:
        found = await (await reader.execute(f"SELECT * FROM {view}")).fetchall()
        assert found, view
        assert "theirs" not in repr(found), view


async def test_the_list_of_views_is_complete(reader, engine):
    shown = {row[0] for row in await rows(engine, "SELECT viewname FROM pg_views WHERE schemaname = 'tollwatch_read'")}
    assert shown == {*VIEWS, *EVERYONES}


async def test_nothing_else_is_readable_or_callable(reader, engine):
    relations = await rows(
        engine,
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tollwatch_read', "
        "'pg_toast')",
    )
    assert len(relations) > 30
    for schema, name in relations:
        with pytest.raises(pg.InsufficientPrivilege):
            await reader.execute(f'SELECT * FROM "{schema}"."{name}" LIMIT 1')


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMP TABLE x (a int)",
        "CREATE TABLE public.x (a int)",
        "SET ROLE tollwatch",
        "SET SESSION AUTHORIZATION tollwatch",
        "SELECT tollwatch.payment_rank('settled', 'agent')",
        "DELETE FROM payments",
        "INSERT INTO agents (agent) VALUES ('x')",
    ],
)
async def test_what_a_reader_tries_is_refused(reader, statement):
    with pytest.raises(
        (pg.InsufficientPrivilege, pg.ReadOnlySqlTransaction, pg.ObjectNotInPrerequisiteState, pg.FeatureNotSupported)
    ):
        await reader.execute(statement)
    await reader.execute("SET default_transaction_read_only = off")
    with pytest.raises((pg.InsufficientPrivilege, pg.ObjectNotInPrerequisiteState, pg.FeatureNotSupported)):
        await reader.execute(statement)


async def test_no_setting_opens_another_project(reader):
    await reader.execute("SET search_path = tollwatch, public")
    await reader.execute("SELECT set_config('tollwatch.project', 'theirs', false)")
    found = await (await reader.execute("SELECT DISTINCT service FROM tollwatch_read.payments")).fetchall()
    assert found == [("http://mine",)]


async def test_job_policy_and_size_functions_are_closed(reader, engine, edition):
    if edition == "plain":
        return
    with pytest.raises(pg.InsufficientPrivilege):
        await reader.execute("SELECT public.hypertable_size('tollwatch.payments')")
    with pytest.raises(pg.InsufficientPrivilege):
        await reader.execute("SELECT public.add_job('pg_sleep', '1h')")
    with pytest.raises(pg.InsufficientPrivilege):
        await reader.execute("SELECT * FROM timescaledb_information.jobs")


async def test_an_unknown_project_is_said_so(settings, deadlines, database_url):
    with pytest.raises(NotFound, match="nobody"):
        await roles.create_reader(settings, "nobody", deadlines)
