"""Migrations: Alembic to head, then the policies, by one process at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import errors as pg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

import migrations
from store import edition, horizons, policies, roles, rollups
from store.deadlines import Deadlines
from store.edition import Edition, Offer
from store.engine import create_engine, reading, wrap_errors
from store.errors import DatabaseTimeout, SchemaMismatch, StartRefused
from store.logs import event
from store.named_sql import query
from store.settings import Settings

Work = Callable[[AsyncConnection, Offer, Settings], Awaitable[None]]
"""What to do once it is our turn, inside one transaction."""

MIGRATION_WAITS = "migration_waits"
PAUSE_SECONDS = (0.2, 3.0)
"""Between two tries for a lock, first and longest: those who queued behind us must get through."""

_log = logging.getLogger(__name__)


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


async def upgrade(settings: Settings, deadlines: Deadlines, revision: str = "head") -> None:
    """Bring settings.database_url to head (or, for tests, an older revision) and apply the policies: all or nothing.

    It waits for a lock only briefly (deadlines.migration_lock) and then begins again, so that nobody who works on the
    database queues behind it for long. Raises DatabaseTimeout when that was in vain; StartRefused (edition, or a schema
    newer than this code), HorizonError and DatabaseError; then nothing was changed.
    """
    await _migrate(settings, deadlines, partial(_upgrade, revision=revision))
    engine = create_engine(settings.required_database_url, deadlines, pool_size=1, statement=deadlines.rollup_fill)
    try:
        async with reading(engine) as connection:
            record = await edition.recorded(connection)
        if record is Edition.COMMUNITY:
            await rollups.fill(engine)
    finally:
        await engine.dispose()


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
                offer = await _checked_offer(connection, settings)
                await connection.rollback()
                await _patiently(deadlines, lambda: _once(connection, offer, settings, work))
                await connection.execute(text(query("unlock_migrations")))
    finally:
        await engine.dispose()


async def _take_turn(connection: AsyncConnection, deadlines: Deadlines) -> None:
    """Wait until no other process migrates this database."""
    for name in ("statement_timeout", "lock_timeout"):
        await _set(connection, "set_session", name, int(deadlines.migration_queue * 1000))
    try:
        await connection.execute(text(query("lock_migrations")))
    except OperationalError as exc:
        if not isinstance(exc.orig, pg.LockNotAvailable | pg.QueryCanceled):
            raise
        raise DatabaseTimeout(
            f"another session has been migrating this database for {deadlines.migration_queue:g} s; wait for it, "
            "or end it (pg_locks tells who holds the advisory lock), and run `tollwatch migrate` again"
        ) from exc
    await _set(connection, "set_session", "statement_timeout", int(deadlines.migration_statement * 1000))
    await _set(connection, "set_session", "lock_timeout", int(deadlines.migration_lock * 1000))
    await connection.commit()


async def _set(connection: AsyncConnection, how: str, name: str, value: object) -> None:
    await connection.execute(text(query(how)), {"name": name, "value": str(value)})


async def _once(connection: AsyncConnection, offer: Offer, settings: Settings, work: Work) -> None:
    async with connection.begin():
        await work(connection, offer, settings)


async def _patiently(deadlines: Deadlines, attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until the locks are to be had. Each try is a transaction of its own, so a failed one lets everybody pass."""
    deadline = time.monotonic() + deadlines.migration_patience
    pause, longest = PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except OperationalError as exc:
            if not isinstance(exc.orig, pg.LockNotAvailable | pg.DeadlockDetected):
                raise
            if time.monotonic() + pause > deadline:
                raise DatabaseTimeout(
                    f"the migration found no gap in {deadlines.migration_patience:g} s to lock what it changes; end "
                    "long transactions (pg_stat_activity, xact_start) and run `tollwatch migrate` again: nothing was "
                    "changed"
                ) from exc
            event(_log, logging.WARNING, MIGRATION_WAITS, error=exc.orig, pause_s=pause)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (jitter, no secret)
        pause = min(2 * pause, longest)


async def _checked_offer(connection: AsyncConnection, settings: Settings) -> Offer:
    offer = await edition.detect(connection)
    edition.check_floor(offer)
    record = await edition.recorded(connection)
    if record is None:
        edition.check_first(offer, settings.edition)
    else:
        edition.compare(record, offer)
    found = await revision_of(connection)
    if found is not None:
        _check_known(found)
    return offer


async def _upgrade(connection: AsyncConnection, offer: Offer, settings: Settings, revision: str) -> None:
    await connection.execute(text(query("create_schema")))
    await _set(connection, "set_local", "tollwatch.edition", offer.edition.value)
    await _alembic(connection, "upgrade", revision)
    record = await edition.recorded(connection)
    if record is None:
        raise StartRefused("the migration recorded no edition; this is a defect, please report it")
    await policies.apply(connection, settings, record)
    await roles.grant_views(connection)


async def _alembic(connection: AsyncConnection, direction: str, revision: str) -> None:
    def run(sync: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = sync
        getattr(command, direction)(config, revision)

    await connection.run_sync(run)
