"""Revisions, one by one, with data in every relation: what they build does not hang on the way that led there."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql

from store import migrate
from store.engine import create_engine
from store.settings import Settings
from store.tables import metadata
from tests.store import first_release
from tests.store.catalogue import differences, snapshot
from tests.store.next_release import NEXT, next_release

COLD = "SELECT public.show_chunks('tollwatch.api_requests', older_than => now() - interval '8 days')"


def revisions() -> list[str]:
    """Every revision of the later release, oldest first."""
    with next_release():
        script = ScriptDirectory.from_config(migrate.alembic_config())
    return [item.revision for item in script.walk_revisions()][::-1]


def to_columnstore(connection, edition):
    if edition != "community":
        return
    connection.execute(
        "CALL public.refresh_continuous_aggregate('tollwatch.requests_hourly', NULL, now() - interval '2 h')"
    )
    chunks = connection.execute(COLD).fetchall()
    assert chunks
    for (chunk,) in chunks:
        connection.execute("CALL public.convert_to_columnstore(%s::regclass)", (chunk,))


async def test_every_revision_goes_up_down_and_up_again_and_the_data_stays(empty_database_url, edition, deadlines):
    settings = Settings(database_url=empty_database_url)
    first, *later = revisions()
    assert later[-1] == NEXT
    await migrate.upgrade(settings, deadlines, first)
    with psycopg.connect(empty_database_url, autocommit=True) as connection, next_release():
        first_release.fill(connection)
        to_columnstore(connection, edition)
        before, kept = snapshot(empty_database_url, partitions=True), first_release.fingerprint(connection)
        assert all(rows for rows, _ in kept.values()), kept
        for present, following in zip([first, *later], later, strict=False):
            await migrate.upgrade(settings, deadlines, following)
            after = snapshot(empty_database_url, partitions=True)
            assert first_release.fingerprint(connection) == kept, following
            await migrate.downgrade(settings, deadlines, present)
            assert differences(before, snapshot(empty_database_url, partitions=True)) == [], f"down from {following}"
            assert first_release.fingerprint(connection) == kept, following
            await migrate.upgrade(settings, deadlines, following)
            assert differences(after, snapshot(empty_database_url, partitions=True)) == [], f"up again to {following}"
            before = after
        await migrate.downgrade(settings, deadlines, first)
        assert first_release.fingerprint(connection) == kept


async def test_an_owner_who_is_no_superuser_can_walk_too(server, deadlines):
    """As on managed servers: the extension, and its schemas, are somebody else's."""
    name, role = server.create(), f"owner_{secrets.token_hex(4)}"
    server.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'walks'").format(sql.Identifier(role)))
    try:
        server.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(role)))
        place = urlsplit(server.url(name))
        url = urlunsplit(place._replace(netloc=f"{role}:walks@{place.netloc.rpartition('@')[2]}"))
        settings = Settings(database_url=url)
        await migrate.upgrade(settings, deadlines)
        with psycopg.connect(url, autocommit=True) as connection:
            first_release.fill(connection)
            kept = first_release.fingerprint(connection)
            await migrate.downgrade(settings, deadlines, revisions()[0])
            await migrate.upgrade(settings, deadlines)
            assert first_release.fingerprint(connection) == kept
            connection.execute("SELECT count(*) FROM tollwatch.request_latency_hourly")
        await migrate.downgrade(settings, deadlines)
    finally:
        server.drop(name)
        server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


async def test_an_upgraded_database_is_what_a_fresh_one_is(empty_database_url, database_url, deadlines):
    fresh = snapshot(database_url)
    settings = Settings(database_url=empty_database_url)
    await migrate.upgrade(settings, deadlines, revisions()[0])
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        first_release.fill(connection)
    await migrate.upgrade(settings, deadlines)
    assert differences(fresh, snapshot(empty_database_url)) == []


async def test_the_first_revision_can_be_taken_back_and_made_again(empty_database_url, deadlines):
    settings = Settings(database_url=empty_database_url)
    await migrate.upgrade(settings, deadlines)
    fresh = snapshot(empty_database_url)
    await migrate.downgrade(settings, deadlines)
    left = snapshot(empty_database_url)
    assert [line.split(" | ")[:2] for line in left["relations"]] == [
        ["tollwatch", "alembic_version"],
        ["tollwatch", "alembic_version_pkc"],
    ]
    assert left["functions"] == left["views"] == left.get("jobs", []) == []
    await migrate.upgrade(settings, deadlines)
    assert differences(fresh, snapshot(empty_database_url)) == []


async def test_the_metadata_builds_the_tables_that_the_revisions_build(database_url, empty_database_url, deadlines):
    engine = create_engine(empty_database_url, deadlines, pool_size=1)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE SCHEMA tollwatch")
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    declared, built = snapshot(empty_database_url), snapshot(database_url)
    for aspect in ("columns", "constraints", "indexes"):
        ours, theirs = of_tables(aspect, declared[aspect]), of_tables(aspect, built[aspect])
        assert ours
        assert differences({aspect: ours}, {aspect: theirs}) == []


def of_tables(aspect, lines):
    """What belongs to a declared table; a table with partitions writes ONLY in the definition of its indexes, and a column
    that a later revision added is the last one."""
    found = [line.replace(" ON ONLY ", " ON ") for line in lines if line.split(" | ")[0] in metadata.tables]
    return sorted(re.sub(r" \| \d+ \|", " |", line, count=1) for line in found) if aspect == "columns" else found


def test_the_snapshot_sees_what_it_should(database_url):
    """Each change of a catalogue makes a difference: otherwise the comparisons above could not fail."""
    changes = {
        "columns": "ALTER TABLE tollwatch.agents ALTER COLUMN max_retries SET DEFAULT 4",
        "constraints": "ALTER TABLE tollwatch.payments DROP CONSTRAINT payments_status_check",
        "indexes": "DROP INDEX tollwatch.payment_heads_open_idx",
        "triggers": "CREATE TRIGGER t BEFORE UPDATE ON tollwatch.agents FOR EACH ROW EXECUTE FUNCTION "
        "suppress_redundant_updates_trigger()",
        "functions": "ALTER FUNCTION tollwatch.payment_rank(text, text) VOLATILE",
        "views": "ALTER VIEW tollwatch.open_payments RENAME COLUMN amount TO money",
        "relations": "COMMENT ON TABLE tollwatch.wallets IS 'x'",
        "schemas": "GRANT USAGE ON SCHEMA tollwatch TO PUBLIC",
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        before = snapshot(database_url)
        for aspect, change in changes.items():
            connection.execute(change)
            after = snapshot(database_url)
            assert any(line[2:].startswith(f"{aspect}:") for line in differences(before, after)), change
            before = after


def test_every_revision_has_a_way_back():
    with next_release():
        script = ScriptDirectory.from_config(migrate.alembic_config())
    for item in script.walk_revisions():
        assert "downgrade" in vars(item.module), item.revision
        assert item.module.downgrade.__code__.co_names, f"{item.revision} does nothing on its way back"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_every_script_has_its_counterpart(direction):
    frozen = ScriptDirectory.from_config(migrate.alembic_config()).dir
    for folder in Path(frozen).glob("versions/r*/" + direction):
        other = folder.parent / ("down" if direction == "up" else "up")
        assert {file.name for file in folder.iterdir()} <= {file.name for file in other.iterdir()}
