"""What must hold before a process serves: schema at head, edition, horizons, the right kind of data."""

from __future__ import annotations

import logging

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import edition, horizons, migrate, server
from store.deadlines import Deadlines
from store.edition import Edition
from store.engine import create_engine, reading, writing
from store.errors import SandboxRefused, SchemaMismatch, StartRefused
from store.logs import event
from store.named_sql import query
from store.settings import SANDBOX_PROJECT, Settings

DATABASE_UNFIT = "database_unfit"

_log = logging.getLogger(__name__)


async def check(engine: AsyncEngine, settings: Settings) -> Edition:
    """Refuse to serve what this code was not made for. Returns the edition of the schema. Raises StartRefused & co.

    A server whose settings only slow it down, or leave work undone that `exact_until` and gauges tell of, is a warning.
    """
    horizons.check(settings)
    async with reading(engine) as connection:
        await migrate.check_revision(connection)
        offer = await edition.detect(connection)
        edition.check_floor(offer)
        record = await edition.recorded(connection)
        if record is None:
            raise SchemaMismatch
        edition.compare(record, offer)
        if (await connection.execute(text(query("recorded_horizons")))).scalar_one() != horizons.as_record(settings):
            raise StartRefused(
                "retention or rollup settings differ from the policies in force; run `tollwatch migrate`"
            )
        if not settings.sandbox and await _has_sandbox(connection):
            raise SandboxRefused
        for unfit in await server.check(connection, record):
            event(_log, logging.WARNING, DATABASE_UNFIT, setting=unfit.setting, problem=unfit.problem)
    return record


async def installation(engine: AsyncEngine) -> str:
    """Which database this is, wherever it moves: a copy and a restore are the same. Raises DatabaseError."""
    async with reading(engine) as connection:
        return str((await connection.execute(text(query("installation")))).scalar_one())


async def prepare_sandbox(settings: Settings, deadlines: Deadlines) -> None:
    """Make the project that everything in the sandbox lives in. Raises SandboxRefused beside other projects."""
    engine = _one_connection(settings, deadlines)
    try:
        async with writing(engine) as connection:
            others = await connection.execute(text(query("other_project")), {"name": SANDBOX_PROJECT})
            if (other := others.scalar_one_or_none()) is not None:
                raise SandboxRefused(
                    f"the database holds project {other!r}, and the sandbox would make it unusable for production; "
                    "use another database, or `tollwatch up --no-sandbox`"
                )
            await connection.execute(text(query("ensure_project")), {"name": SANDBOX_PROJECT})
    finally:
        await engine.dispose()


async def refuse_sandbox(settings: Settings, deadlines: Deadlines) -> None:
    """Raises SandboxRefused when a production start finds the sandbox's project."""
    engine = _one_connection(settings, deadlines)
    try:
        async with reading(engine) as connection:
            if await _has_sandbox(connection):
                raise SandboxRefused
    finally:
        await engine.dispose()


async def _has_sandbox(connection: AsyncConnection) -> bool:
    if not (await connection.execute(text(query("schema_exists")))).scalar_one():
        return False
    found = await connection.execute(text(query("project_exists")), {"name": SANDBOX_PROJECT})
    return bool(found.scalar_one())


def _one_connection(settings: Settings, deadlines: Deadlines) -> AsyncEngine:
    return create_engine(settings.required_database_url, deadlines, pool_size=1)
