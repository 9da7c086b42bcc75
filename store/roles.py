"""Reader logins: one role per project, which sees that project's barrier views and nothing else.

What a role may see hangs on `session_user` alone (tollwatch.project_roles): no setting that a reader can SET decides.
"""

from __future__ import annotations

import secrets
from urllib.parse import quote, urlsplit, urlunsplit

from psycopg import errors as pg
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from store.deadlines import Deadlines
from store.engine import create_engine, writing
from store.errors import DatabaseError, NotFound
from store.named_sql import query
from store.settings import Settings
from store.tables import READ_SCHEMA

CONNECTION_LIMIT = 10
"""Connections that one reader may hold: a dashboard's pool, not the server's."""
STATEMENT_TIMEOUT = "10s"
IDLE_TIMEOUT = "60s"
_GRANT_VIEWS = f"GRANT SELECT ON ALL TABLES IN SCHEMA {READ_SCHEMA} TO {{role}}"
_CLOSE_CATALOGUE = tuple(
    f"REVOKE ALL ON ALL {kind} IN SCHEMA _timescaledb_catalog, _timescaledb_config, _timescaledb_internal, "
    "_timescaledb_cache FROM PUBLIC"
    for kind in ("TABLES", "SEQUENCES")
)


async def create_reader(settings: Settings, project: str, deadlines: Deadlines) -> str:
    """Make, or give a new password to, the reader login of a project. Returns its libpq URL.

    Raises NotFound (no such project), DatabaseError.
    """
    engine = create_engine(settings.required_database_url, deadlines, pool_size=1)
    password = secrets.token_urlsafe(24)
    try:
        async with writing(engine) as connection:
            project_id = await _project_id(connection, project)
            role = await _role_name(connection, project_id)
            await _make_login(connection, role, password)
            await connection.execute(
                text(query("record_role")), {"role": role, "project_id": project_id, "purpose": "reader"}
            )
            await _grant(connection, role)
            await _close_extension(connection, role)
    finally:
        await engine.dispose()
    parts = urlsplit(settings.required_database_url)
    host = f"{quote(role)}:{quote(password)}@{parts.netloc.rsplit('@', 1)[-1]}"
    return urlunsplit((parts.scheme, host, parts.path, parts.query, ""))


async def grant_views(connection: AsyncConnection) -> None:
    """Let every reader see every view: a migration may have made some anew. Logins that are gone are left out."""
    for role in (await connection.execute(text(query("readers")))).scalars():
        await _run(connection, _GRANT_VIEWS, role=sql.Identifier(role))


async def _project_id(connection: AsyncConnection, project: str) -> int:
    found = (await connection.execute(text(query("project_id")), {"name": project})).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no project {project!r}; `tollwatch keys create` makes one")
    return int(found)


async def _role_name(connection: AsyncConnection, project_id: int) -> str:
    """The reader that the project has, or a new name: at random, since every login can list all of them."""
    known = {"project_id": project_id, "purpose": "reader"}
    found = (await connection.execute(text(query("role_of_project")), known)).scalar_one_or_none()
    return str(found or f"tollwatch_reader_{secrets.token_hex(6)}")


async def _make_login(connection: AsyncConnection, role: str, password: str) -> None:
    exists = (await connection.execute(text(query("role_exists")), {"role": role})).scalar_one()
    verb = "ALTER" if exists else "CREATE"
    await _run(
        connection,
        f"{verb} ROLE {{role}} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT {CONNECTION_LIMIT} "
        "PASSWORD {password}",
        role=sql.Identifier(role),
        password=sql.Literal(password),
    )
    for name, value in (
        ("search_path", READ_SCHEMA),
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
        ("default_transaction_read_only", "on"),
    ):
        await _run(
            connection,
            f"ALTER ROLE {{role}} SET {name} = {{value}}",
            role=sql.Identifier(role),
            value=sql.Literal(value),
        )


async def _grant(connection: AsyncConnection, role: str) -> None:
    database = (await connection.execute(text(query("current_database")))).scalar_one()
    names = {"role": sql.Identifier(role), "database": sql.Identifier(database)}
    for statement in (
        "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {database} TO {role}",
        f"GRANT USAGE ON SCHEMA {READ_SCHEMA} TO {{role}}",
        _GRANT_VIEWS,
    ):
        await _run(connection, statement, **names)


async def _close_extension(connection: AsyncConnection, role: str) -> None:
    """TimescaleDB lets PUBLIC call its job, policy and size functions and read its catalogue; readers must not."""
    reach = (await connection.execute(text(query("reader_reach")), {"role": role})).scalars().all()
    schemas = (await connection.execute(text(query("reader_schemas")), {"role": role})).scalars().all()
    try:
        if reach:
            await _run(connection, f"GRANT EXECUTE ON ROUTINE {', '.join(reach)} TO CURRENT_USER")
            await _run(connection, f"REVOKE EXECUTE ON ROUTINE {', '.join(reach)} FROM PUBLIC")
            for statement in _CLOSE_CATALOGUE:
                await _run(connection, statement)
        for schema in schemas:
            await _run(connection, "GRANT USAGE ON SCHEMA {schema} TO CURRENT_USER", schema=sql.Identifier(schema))
            await _run(connection, "REVOKE USAGE ON SCHEMA {schema} FROM PUBLIC", schema=sql.Identifier(schema))
    except DBAPIError as exc:
        if isinstance(exc.orig, pg.InsufficientPrivilege):
            raise DatabaseError(
                f"readers could still call {len(reach)} functions of TimescaleDB, and only the owner of the extension "
                "can change that; run this command as that role"
            ) from exc
        raise


async def _run(connection: AsyncConnection, statement: str, **parts: sql.Composable) -> None:
    """Role statements take no parameters: names and literals are quoted by the driver's own composer."""
    raw = (await connection.get_raw_connection()).driver_connection
    composed = sql.SQL(statement).format(**parts) if parts else sql.SQL(statement)
    await connection.exec_driver_sql(composed.as_string(raw), execution_options={"no_parameters": True})
