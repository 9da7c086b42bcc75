"""Migrations, on every edition: up, down, four at once, and no difference between the database and the metadata."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from alembic import command
from sqlalchemy import text

from store import migrate, startup
from store.deadlines import Deadlines
from store.engine import create_engine, reading
from store.errors import DatabaseUnavailable, HorizonError, SchemaMismatch, StartRefused, WrongEdition
from store.settings import Settings

CATALOGUE = """
SELECT n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('tollwatch', 'tollwatch_read', 'tollwatch_internal') ORDER BY 1, 2
"""


async def catalogue(url):
    engine = create_engine(url, Deadlines(), pool_size=1)
    try:
        async with reading(engine) as connection:
            return [tuple(row) for row in await connection.execute(text(CATALOGUE))]
    finally:
        await engine.dispose()


async def test_up_down_up_leaves_the_same_catalogue(empty_database_url, deadlines):
    settings = Settings(database_url=empty_database_url)
    await migrate.upgrade(settings, deadlines)
    first = await catalogue(empty_database_url)
    assert {"payments", "payments_hourly", "balance_heads"} <= {row[1] for row in first}

    await migrate.downgrade(settings, deadlines)
    left = await catalogue(empty_database_url)
    assert {(row[0], row[1]) for row in left} == {
        ("tollwatch", "alembic_version"),
        ("tollwatch", "alembic_version_pkc"),
    }

    await migrate.upgrade(settings, deadlines)
    assert await catalogue(empty_database_url) == first


async def test_four_upgrades_at_once_make_one_schema(empty_database_url, deadlines):
    settings = Settings(database_url=empty_database_url)
    await asyncio.gather(*(migrate.upgrade(settings, deadlines) for _ in range(4)))
    assert "payments" in {row[1] for row in await catalogue(empty_database_url)}


async def test_the_database_has_what_the_metadata_declares(database_url, deadlines):
    engine = create_engine(database_url, deadlines, pool_size=1)

    def check(sync):
        config = migrate.alembic_config()
        config.attributes["connection"] = sync
        command.check(config)

    try:
        async with engine.connect() as connection:
            await connection.run_sync(check)
    finally:
        await engine.dispose()


async def test_a_schema_from_the_future_is_refused_and_left_alone(database_url, deadlines):
    engine = create_engine(database_url, deadlines, pool_size=1)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE tollwatch.alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="9999, which this version of Tollwatch does not know"):
        await migrate.upgrade(Settings(database_url=database_url), deadlines)
    with pytest.raises(SchemaMismatch, match="newer"):
        await startup.check(engine, Settings(database_url=database_url))
    await engine.dispose()


async def test_another_edition_is_refused(database_url, edition, deadlines):
    engine = create_engine(database_url, deadlines, pool_size=1)
    other = "community" if edition != "community" else "apache"
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE tollwatch.schema_info SET edition = :other"), {"other": other})
    before = await catalogue(database_url)
    with pytest.raises(WrongEdition, match=f"made for the {other} edition and the server now offers {edition}"):
        await migrate.upgrade(Settings(database_url=database_url), deadlines)
    with pytest.raises(WrongEdition):
        await startup.check(engine, Settings(database_url=database_url))
    assert await catalogue(database_url) == before
    await engine.dispose()


async def test_an_empty_database_does_not_serve(empty_database_url, deadlines):
    engine = create_engine(empty_database_url, deadlines, pool_size=1)
    with pytest.raises(SchemaMismatch, match="tollwatch migrate"):
        await startup.check(engine, Settings(database_url=empty_database_url))
    await engine.dispose()


async def test_changed_horizons_need_a_migration(database_url, deadlines):
    engine = create_engine(database_url, deadlines, pool_size=1)
    changed = Settings(database_url=database_url, retain_payments=timedelta(days=300))
    with pytest.raises(StartRefused, match="tollwatch migrate"):
        await startup.check(engine, changed)
    await migrate.upgrade(changed, deadlines)
    await startup.check(engine, changed)
    await engine.dispose()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollup_window": timedelta(days=8)}, "ROLLUP_WINDOW"),
        ({"columnstore_after": timedelta(days=9)}, "COLUMNSTORE_AFTER"),
        ({"retain_samples": timedelta(days=15)}, "RETAIN_SAMPLES"),
        ({"retain_rollups": timedelta(days=100)}, "RETAIN_ROLLUPS"),
    ],
)
async def test_horizons_that_contradict_each_other_are_refused(change, message, deadlines):
    settings = replace(Settings(database_url="postgresql://nobody@127.0.0.1:1/nowhere"), **change)
    with pytest.raises(HorizonError, match=message):
        await migrate.upgrade(settings, deadlines)


async def test_an_unreachable_server_is_one_clear_error(deadlines):
    with pytest.raises(DatabaseUnavailable, match="check that it runs"):
        await migrate.upgrade(Settings(database_url="postgresql://nobody@127.0.0.1:1/nowhere"), deadlines)
