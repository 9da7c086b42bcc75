"""`tollwatch db slow`: where the server keeps statistics they are told by the names of sql/; elsewhere one sentence says what to do."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text

from store import slow
from store.engine import create_engine, reading
from store.errors import StatisticsMissing
from store.facts import Facts
from store.named_sql import query
from store.writer import FactWriter
from tests.store.world import make_world, payment


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=2)
    yield made
    await made.dispose()


@pytest.fixture
def is_loaded(server):
    with psycopg.connect(server.admin_url) as connection:
        return "pg_stat_statements" in connection.execute("SHOW shared_preload_libraries").fetchone()[0]


async def ask(engine, statement, **values):
    async with reading(engine) as connection:
        await connection.execute(text(query(statement)), values)


async def test_what_is_missing_is_said_in_a_sentence(engine, is_loaded):
    with pytest.raises(StatisticsMissing) as refused:
        await slow.read(engine, limit=5)
    said = str(refused.value)
    assert "CREATE EXTENSION pg_stat_statements in" in said
    assert ("shared_preload_libraries" in said) == (not is_loaded)
    assert "\n" not in said


async def test_statements_are_told_by_name(engine, database_url, deadlines, is_loaded):
    with psycopg.connect(database_url, autocommit=True) as connection:
        if not is_loaded:
            # Nothing is counted here. That the extension cannot work unloaded is all that this server can show.
            offered = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'"
            if connection.execute(offered).fetchone() != (0,):
                connection.execute("CREATE EXTENSION pg_stat_statements")
            with pytest.raises(StatisticsMissing, match="shared_preload_libraries"):
                await slow.read(engine, limit=5)
            return
        connection.execute('CREATE SCHEMA "Odd one"; CREATE EXTENSION pg_stat_statements SCHEMA "Odd one"')
    world = await make_world(engine)
    for _ in range(7):
        await ask(engine, "read_agent_id", project_id=world.project_id, name="agent-0")
        await ask(engine, "read_agent_id", project_id=world.project_id, name=f"nobody-{uuid4()}")
    await FactWriter(engine, deadlines).write(Facts(payments=[payment(world), payment(world)]))
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1 AS not_one_of_ours"))
    found = await slow.read(engine, limit=1000)
    told = {statement.name: statement for statement in found if statement.name}
    # Types of parameters differ from call to call; the name gathers them.
    assert (told["read_agent_id"].calls, told["read_agent_id"].rows) == (14, 7)
    assert told["store_payments"].calls == 1
    assert any("not_one_of_ours" in statement.text for statement in found if statement.name is None)
    assert len(told) == len([statement for statement in found if statement.name]), "one line per name"
    assert [statement.total_ms for statement in found] == sorted((s.total_ms for s in found), reverse=True)
    assert sum(statement.share for statement in found) == pytest.approx(1)
    one = told["read_agent_id"]
    assert one.mean_ms == pytest.approx(one.total_ms / 14)
    assert one.max_ms >= one.mean_ms
    (first,) = await slow.read(engine, limit=1)
    assert first.total_ms >= found[1].total_ms
