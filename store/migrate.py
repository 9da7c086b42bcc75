"""Migrations: Alembic to head, then the policies, by one process at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

import migrations
from store import edition, horizons, policies
from store.deadlines import Deadlines
from store.edition import Offer
from store.engine import create_engine, wrap_errors
from store.errors import SchemaMismatch, StartRefused
from store.named_sql import query
from store.settings import Settings

Work = Callable[[AsyncConnection, Offer, Settings], Awaitable[None]]
"""What to do once it is our turn, inside one transaction."""


def alembic_config() -> Config:
    """Alembic's configuration; the revisions come with the package."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def head() -> str:
    """The newest revision that this code knows."""
    found = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if found is None:
        raise SchemaMismatch("this installation has no revisions; install it again")
    return found


async def upgrade(settings: Settings, deadlines: Deadlines) -> None:
    """Bring settings.database_url to head and apply the policies.

    Raises StartRefused (edition, or a schema newer than this code), HorizonError and DatabaseError; then nothing was
    changed.
    """
    await _migrate(settings, deadlines, _upgrade)


async def downgrade(settings: Settings, deadlines: Deadlines, revision: str = "base") -> None:
    """Back to an older revision: for tests and for the operator who knows. Data of dropped tables is gone."""
    await _migrate(
        settings, deadlines, lambda connection, _offer, _settings: _alembic(connection, "downgrade", revision)
    )


async def revision_of(connection: AsyncConnection) -> str | None:
    """The schema's revision; None for an empty database."""
    if not (await connection.execute(text(query("revision_table_exists")))).scalar_one():
        return None
    found: str | None = (await connection.execute(text(query("schema_revision")))).scalar_one_or_none()
    return found


async def check_revision(connection: AsyncConnection) -> None:
    """Raises SchemaMismatch unless the schema is at this code's head."""
    found = await revision_of(connection)
    if found == head():
        return
    if found is None:
        raise SchemaMismatch("the database has no Tollwatch schema yet; run `tollwatch migrate`")
    _check_known(found)
    raise SchemaMismatch(f"the schema is at revision {found} and this code needs {head()}; run `tollwatch migrate`")


def _check_known(found: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found not in known:
        raise SchemaMismatch(
            f"the schema is at revision {found}, which this version of Tollwatch does not know: it is newer; "
            "install the version that migrated it"
        )


async def _migrate(settings: Settings, deadlines: Deadlines, work: Work) -> None:
    horizons.check(settings)
    engine = create_engine(
        settings.required_database_url, deadlines, pool_size=1, statement=deadlines.migration_statement
    )
    try:
        with wrap_errors():
            async with engine.connect() as connection:
                await _take_turn(connection, deadlines)
                offer = await _checked_offer(connection)
                await connection.rollback()
                async with connection.begin():
                    await work(connection, offer, settings)
                await connection.execute(text(query("unlock_migrations")))
    finally:
        await engine.dispose()


async def _take_turn(connection: AsyncConnection, deadlines: Deadlines) -> None:
    """Wait until no other process migrates this database."""
    for name in ("statement_timeout", "lock_timeout"):
        await _set(connection, "set_session", name, int(deadlines.migration_queue * 1000))
    await connection.execute(text(query("lock_migrations")))
    await _set(connection, "set_session", "statement_timeout", int(deadlines.migration_statement * 1000))
    await _set(connection, "set_session", "lock_timeout", int(deadlines.lock * 1000))
    await connection.commit()


async def _set(connection: AsyncConnection, how: str, name: str, value: object) -> None:
    await connection.execute(text(query(how)), {"name": name, "value": str(value)})


async def _checked_offer(connection: AsyncConnection) -> Offer:
    offer = await edition.detect(connection)
    edition.check_floor(offer)
    record = await edition.recorded(connection)
    if record is not None:
        edition.compare(record, offer)
    found = await revision_of(connection)
    if found is not None:
        _check_known(found)
    return offer


async def _upgrade(connection: AsyncConnection, offer: Offer, settings: Settings) -> None:
    await connection.execute(text(query("create_schema")))
    await _set(connection, "set_local", "tollwatch.edition", offer.edition.value)
    await _alembic(connection, "upgrade", "head")
    record = await edition.recorded(connection)
    if record is None:
        raise StartRefused("the migration recorded no edition; this is a defect, please report it")
    await policies.apply(connection, settings, record)


async def _alembic(connection: AsyncConnection, direction: str, revision: str) -> None:
    def run(sync: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = sync
        getattr(command, direction)(config, revision)

    await connection.run_sync(run)
