"""An index that a revision adds to a large relation comes with its next partitions; those that are there stay as they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from migrations import frozen
from store import migrate, partitions
from store.engine import create_engine
from store.facts import Facts
from store.settings import Settings
from store.writer import FactWriter
from tests.store import first_release
from tests.store.world import make_world, moment, payment

BEFORE = "0001"
PARTITIONS_WITH = r"""
SELECT i.inhrelid::regclass::text, (
  SELECT count(*) FROM pg_index x WHERE x.indrelid = i.inhrelid
    AND pg_get_indexdef(x.indexrelid) ~ '\(project_id, agent_id, (ts|status, ts, id)\)')
FROM pg_inherits i WHERE i.inhparent = 'tollwatch.payments'::regclass
"""


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(frozen, "LARGE", -1)


@pytest.mark.usefixtures("everything_is_large")
async def test_a_large_relation_gets_its_index_with_the_next_partition(empty_database_url, edition, deadlines):
    settings = Settings(database_url=empty_database_url)
    await migrate.upgrade(settings, deadlines, BEFORE)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        first_release.fill(connection)
        old = {name for name, _ in connection.execute(PARTITIONS_WITH)}
        await migrate.upgrade(settings, deadlines)
        assert {name for name, has in connection.execute(PARTITIONS_WITH) if has} & old == set()
        await write_into_a_new_partition(empty_database_url, edition, deadlines)
        new = {name: has for name, has in connection.execute(PARTITIONS_WITH) if name not in old}
    assert new
    assert set(new.values()) == {2}, new
    await migrate.downgrade(settings, deadlines, BEFORE)
    await migrate.upgrade(settings, deadlines)


async def write_into_a_new_partition(url, edition, deadlines):
    engine = create_engine(url, deadlines, pool_size=1)
    ahead = timedelta(days=30)
    if edition == "plain":
        now = datetime.now(UTC)
        await partitions.ensure(engine, "payments", now, now + ahead)
    world = await make_world(engine, "another")
    stored = await FactWriter(engine, deadlines).write(
        Facts(payments=[payment(world, at=moment(-ahead.total_seconds() + 60))])
    )
    assert stored.new == {"payments": 1}
    await engine.dispose()
