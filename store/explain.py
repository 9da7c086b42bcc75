"""Plans of every named statement and view, with values that a caller could have sent.

A statement is planned as it would be: with the very values (`plan_cache_mode=force_custom_plan`). What they are follows
from their names and, where no name says, from the types that PostgreSQL infers. Nothing is changed: the transaction is
read only when the plan is asked for, and rolled back.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from psycopg import errors as pg
from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import edition as editions
from store.edition import Edition
from store.engine import reading, wrap_errors
from store.errors import DatabaseError, NotExplained, NotFound, SchemaMismatch
from store.horizons import ROLLUPS
from store.named_sql import all_queries, query, rollup_select
from store.tables import READ_SCHEMA, SCHEMA

_EXPLAINABLE = re.compile(r"(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE TEMPORARY TABLE)\b")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
_CAST = re.compile(r"CAST\(:(\w+) AS ([^()]+)\)( IS NULL)?")
_CALLED = re.compile(r"\b(\w+)\(")
_STAGE = re.compile(r"pg_temp\.(stage_\w+)")
_PART = re.compile(r"\{[a-z_]+\}")
_WRITES = ("ModifyTable", "LockRows")
_ABSENT = (pg.UndefinedTable, pg.UndefinedColumn, pg.UndefinedFunction, pg.UndefinedObject, pg.InvalidSchemaName)
_AS_IS = {"no_parameters": True}
_ROLLUP = "payments_hourly"
_PROBE = "tollwatch_probe"

_BY_NAME = {
    "from_ts": "now() - interval '1 day'",
    "first_ts": "now() - interval '1 day'",
    "to_ts": "now()",
    "last_ts": "now()",
    "end": "date_trunc('hour', now())",
    "bucket": "date_trunc('hour', now()) - interval '1 hour'",
    "watermark": "date_trunc('hour', now())",
    "before": "now() - interval '400 days'",
    "relation": "'payments'",
    "schema": f"'{SCHEMA}'",
    "role": "current_user",
    "limit": "101",
    "most": "100",
    "project_id": "1",
    "agent_id": "1",
    "wallet_id": "1",
    "asset_id": "1",
    "max_retries": "3",
    "breaker_timeout_s": "300",
    "tx_used": "0",
    "active": "true",
}
"""Values as SQL, where the type alone would say too little, or PostgreSQL takes the parameter for text."""
_BY_TYPE = {
    "bool": "true",
    "bytea": "'\\x00'::bytea",
    "interval": "interval '1 hour'",
    "jsonb": "'{}'::jsonb",
    "regclass": f"'{SCHEMA}.{_ROLLUP}'::regclass",
    "text": "'x'::text",
    "tid": "'(0,1)'::tid",
    "timestamptz": "now()",
    "uuid": "'01900000-0000-7000-8000-000000000000'::uuid",
}
_SHORT = {"boolean": "bool", "timestamp with time zone": "timestamptz", "integer": "int", "int4": "int"}


@cache
def views() -> tuple[str, ...]:
    """Views that can be explained, with their schemas: core views, rollups and what readers see."""
    core = [f"{SCHEMA}.{name}" for name in _files("core_views")]
    read = [f"{READ_SCHEMA}.{name}" for name in _files("views")]
    return (*core, *(f"{SCHEMA}.{rollup.name}" for rollup in ROLLUPS), *read)


def names() -> list[str]:
    """Everything that `explain` knows."""
    return [*all_queries(), *views()]


def _files(folder: str) -> list[str]:
    found = (files("sql") / folder).iterdir()
    return sorted(item.name.removesuffix(".sql") for item in found if item.name.endswith(".sql"))


async def explain(engine: AsyncEngine, name: str, *, analyze: bool = False) -> list[str]:
    """The lines of one plan. `analyze` also runs it, and is for reads only.

    Raises NotFound, NotExplained (why there is no plan) and DatabaseError.
    """
    _check_name(name)
    async with reading(engine) as connection:
        edition = await editions.recorded(connection)
        if edition is None:
            raise SchemaMismatch("the database has no Tollwatch schema yet; run `tollwatch migrate`")
        try:
            return await _plan(connection, edition, name, analyze=analyze)
        except DatabaseError as exc:
            if (lacks := _lacks(exc)) is None:
                raise
            raise NotExplained(f"{name} is not for the {edition} edition as it is here: {lacks}") from exc


async def _plan(connection: AsyncConnection, edition: Edition, name: str, *, analyze: bool) -> list[str]:
    statement = await _statement(connection, edition, name)
    if analyze:
        await _check_reads(connection, name, statement)
    await _exec(connection, "SET TRANSACTION READ ONLY")
    how = "EXPLAIN (ANALYZE, BUFFERS) " if analyze else "EXPLAIN "
    return [row[0] for row in await _exec(connection, how + statement)]


def _lacks(exc: DatabaseError) -> str | None:
    """What a statement of another edition names and is not here; None for any other error."""
    cause = getattr(exc.__cause__, "orig", None)
    return cause.diag.message_primary if isinstance(cause, _ABSENT) else None


def _check_name(name: str) -> None:
    if name in names():
        return
    near = difflib.get_close_matches(name, names(), 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "sql/queries and sql/views have them"
    raise NotFound(f"no statement or view {name[:100]!r}; {hint}")


async def _statement(connection: AsyncConnection, edition: Edition, name: str) -> str:
    """A statement without parameters, ready to be explained here. Raises NotExplained."""
    if name in views():
        return await _select_all(connection, name)
    found = all_queries()[name].text
    if not _EXPLAINABLE.match(found):
        word = found.split(None, 1)[0]
        raise NotExplained(f"{name} has no plan: EXPLAIN takes SELECT, INSERT, UPDATE and DELETE, and this is {word}")
    filled = _filled(found, edition)
    if part := _PART.search(filled):
        raise NotExplained(f"{name} has no plan of its own: {part[0]} and other parts are put in for each relation")
    for stage in sorted(set(_STAGE.findall(filled))):
        await _exec(connection, all_queries()[stage].text)
    return await _with_values(connection, filled)


async def _select_all(connection: AsyncConnection, view: str) -> str:
    schema, _, name = view.partition(".")
    asked = {"schema": schema, "name": name}
    time = (await connection.execute(text(query("time_column")), asked)).scalar_one_or_none()
    within = f" WHERE {time} >= now() - interval '1 day' ORDER BY {time} DESC" if time else ""
    return f"SELECT * FROM {view}{within} LIMIT 100"  # noqa: S608 (a name of ours)


def _filled(statement: str, edition: Edition) -> str:
    """`{…}` replaced as those do who send it."""
    values = {
        "rollup": _ROLLUP,
        "size": "hourly",
        "payments": "payments",
        "requests": "requests",
        "latency": "request_latency",
        "agent_id": "r.agent_id",
        "is_total": "false",
        "schema": "public",
        "table": f"{SCHEMA}.payments",
        "time": "ts",
        "select": rollup_select(_ROLLUP, edition, "ts >= :bucket AND ts < :end"),
    }
    for key, value in values.items():
        statement = statement.replace("{" + key + "}", value)
    return statement


async def _with_values(connection: AsyncConnection, statement: str) -> str:
    """Values in place of parameters: by their cast, by their name, and else by the type that PostgreSQL infers."""
    values = _BY_NAME | {name: _of_type(kind) for name, kind, _ in _CAST.findall(statement) if name not in _BY_NAME}
    values |= {name: "NULL" for name, _, is_optional in _CAST.findall(statement) if is_optional}
    values |= {name: _of_type(kind) for name, kind, _ in _CAST.findall(statement) if kind == "regclass"}
    values |= await _project(connection, values)
    unknown = [name for name in dict.fromkeys(_PARAMETER.findall(statement)) if name not in values]
    if unknown:
        numbered = {name: f"${place}" for place, name in enumerate(unknown, 1)}
        await _exec(connection, f"PREPARE {_PROBE} AS {_replaced(statement, values | numbered)}")
        asked = {"name": _PROBE}
        kinds = (await connection.execute(text(query("parameter_types")), asked)).scalar_one()
        await _exec(connection, f"DEALLOCATE {_PROBE}")
        values |= {name: _of_type(kind) for name, kind in zip(unknown, kinds, strict=True)}
    return _replaced(statement, values)


async def _project(connection: AsyncConnection, values: Mapping[str, str]) -> dict[str, str]:
    """A project that has written something, so that the plan is one of real rows. Filters stay off."""
    found = (await connection.execute(text(query("any_project")))).mappings().one_or_none()
    real = {} if found is None else {name: str(value) for name, value in found.items() if value is not None}
    return {name: value for name, value in real.items() if values[name] != "NULL"}


def _of_type(kind: str) -> str:
    """A value of a type, as SQL; numbers are 1, an array has one element."""
    kind = _SHORT.get(kind, kind)
    if kind.endswith("[]"):
        return f"ARRAY[{_of_type(kind.removesuffix('[]'))}]::{kind}"
    return _BY_TYPE.get(kind, f"1::{kind}")


def _replaced(statement: str, values: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda found: values[found[1]], statement)


async def _check_reads(connection: AsyncConnection, name: str, statement: str) -> None:
    """Raises NotExplained for what would do something: its plan writes or locks, or it calls a volatile function."""
    plan = json.dumps((await _exec(connection, "EXPLAIN (FORMAT JSON) " + statement)).scalar_one())
    called = {"names": sorted(set(_CALLED.findall(statement)))}
    volatile = (await connection.execute(text(query("volatile_functions")), called)).scalars().all()
    if any(f'"{node}"' in plan for node in _WRITES) or statement.startswith("CREATE"):
        raise NotExplained(f"{name} writes or locks, so it is planned only: leave out --analyze")
    if volatile:
        raise NotExplained(f"{name} calls {', '.join(volatile)}, which may change something: leave out --analyze")


async def _exec(connection: AsyncConnection, statement: str) -> CursorResult[Any]:
    with wrap_errors():
        return await connection.exec_driver_sql(statement, execution_options=_AS_IS)
