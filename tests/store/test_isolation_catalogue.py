"""All that a reader can read or call, whatever it is called and whoever brought it: nothing of another project is in it.

The lists come from the catalogue, so a relation or a function is covered the day it is born. What is left is written
down in docs/decisions/0012, with reasons.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors as pg

from store import roles
from store.engine import create_engine
from store.facts import Facts
from store.writer import FactWriter
from tests.store.world import audit, make_world, payment, queued, request, sample

MARK = "zx7marker"
"""In every text that belongs to the other project."""
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
"""When all facts are: on one day, because for which days somebody has data is what partitions and chunks say."""
READABLE = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 't') AND has_schema_privilege(%(role)s, n.oid, 'USAGE')
  AND (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(%(role)s, c.oid, 'SELECT, USAGE')
    ELSE has_any_column_privilege(%(role)s, c.oid, 'SELECT') END)
ORDER BY 1, 2"""
CALLABLE = """
SELECT p.oid::regprocedure::text, p.oid::regproc::text, p.prosecdef, n.nspname, p.pronargs,
  CASE p.pronargs WHEN 1 THEN p.proargtypes[0]::regtype::text END
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind IN ('f', 'p') AND has_function_privilege(%(role)s, p.oid, 'EXECUTE')
  AND has_schema_privilege(%(role)s, n.oid, 'USAGE') AND p.prorettype <> 'trigger'::regtype
ORDER BY 1"""


async def facts(engine, deadlines, world, name, count):
    writer = FactWriter(engine, deadlines)
    await writer.write(
        Facts(
            payments=[
                payment(world, at=NOON, service=f"http://{name}", facilitator=name, metadata=None) for _ in range(count)
            ],
            api_requests=[request(world, at=NOON, service=f"http://{name}") for _ in range(count)],
            audit_events=[audit(world, "breaker_opened", at=NOON, component=name) for _ in range(count)],
            queue_events=[queued(world, at=NOON) for _ in range(count)],
            balance_samples=[sample(world, 2, 1 + n, at=NOON + timedelta(seconds=n)) for n in range(count)],
        )
    )


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines, pool_size=2)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def reader(engine, settings, deadlines):
    """The reader of `mine`. The role is dropped afterwards."""
    world = await make_world(engine, name="mine", agents=1)
    await facts(engine, deadlines, world, "mine", 3)
    url = await roles.create_reader(settings, "mine", deadlines)
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("SET default_transaction_read_only = off")
    yield connection
    role = connection.info.user
    connection.close()
    with psycopg.connect(settings.database_url, autocommit=True) as owner:
        owner.execute(f"DROP OWNED BY {role}")
        owner.execute(f"DROP ROLE {role}")


def readable_and_callable(engine_url, role):
    with psycopg.connect(engine_url, autocommit=True) as owner:
        relations = owner.execute(READABLE, {"role": role}).fetchall()
        routines = owner.execute(CALLABLE, {"role": role}).fetchall()
    return relations, routines


def test_only_barrier_views_and_the_servers_own_catalogue_are_readable(reader, database_url):
    relations, _ = readable_and_callable(database_url, reader.info.user)
    assert len(relations) > 150
    foreign = [row for row in relations if row[0] not in ("pg_catalog", "information_schema", "tollwatch_read")]
    assert foreign == []
    barriers = "SELECT relname FROM pg_class WHERE relnamespace = 'tollwatch_read'::regnamespace AND relkind = 'v' \
        AND 'security_barrier=true' = ANY (reloptions)"
    with psycopg.connect(database_url) as owner:
        shown = {row[0] for row in owner.execute(barriers)}
    assert shown == {name for schema, name in relations if schema == "tollwatch_read"}


def test_what_a_reader_can_call_computes_from_its_arguments(reader, database_url, edition):
    _, routines = readable_and_callable(database_url, reader.info.user)
    assert not [signature for signature, _, definer, *_ in routines if definer], "runs with its owner's rights"
    ours = {name for _, name, _, schema, *_ in routines if schema.startswith("tollwatch")}
    assert ours == {"tollwatch_read.base58", "tollwatch_read.latency_quantile"}
    brought = [
        (signature, name)
        for signature, name, _, schema, *_ in routines
        if "timescaledb" in schema or schema == "public"
    ]
    assert bool(brought) is (edition != "plain")
    reach = (
        "job",
        "polic",
        "size",
        "chunk",
        "stat",
        "hypertable",
        "row_count",
        "telemetry",
        "worker",
        "dimension",
        "rowstore",
    )
    brought = [(signature, name.split(".")[-1]) for signature, name in brought if not name.endswith(("_in", "_out"))]
    assert [signature for signature, name in brought if any(word in name for word in reach)] == []


ALLOWED = {
    r"pg_catalog\.pg_(stat|statio)_\w+|pg_stat_get_\w+\(.*\)": "counters of the server: how much, never what or whose",
    r"pg_catalog\.pg_class|pg_\w+_size\(.*\)": "rows and pages of relations that hold everyone's rows, in all",
    r"pg_catalog\.pg_locks|pg_lock_status\(\)": "which relations are in use",
    r"pg_catalog\.pg_stats(_ext\w*)?": "of the catalogues of PostgreSQL itself only: asserted below",
    r"pg_catalog\.pg_settings": "settings of the session",
    r"pg_current_(wal|xact|snapshot)\w*\(.*\)|txid_\w+\(\)|pg_export_snapshot\(\)|pg_control_\w+\(\)": "how far the server has come",
    r"(now|clock_timestamp|\w+_timestamp|timeofday|random|gen_random_uuid|uuidv\d)\(\)|\S*generate_uuid(v7)?\(\)": "a clock, a die",
    r"tollwatch_read\.breaker_intervals": "says how long a breaker has been open by now",
}
"""What may look different after another project's rows changed. docs/decisions/0012 says why it stays."""


def look(reader, relations, routines, oids):
    """Everything that the reader sees, as text: each relation, each routine without arguments, or with a relation's oid."""
    calls = {f"{schema}.{name}": (f'SELECT * FROM "{schema}"."{name}"', None) for schema, name in relations}
    for signature, name, _, _, count, argument in routines:
        if count == 0:
            calls[signature] = (f"SELECT {name}()", None)
        elif argument in ("oid", "regclass"):
            calls[signature] = (f"SELECT {name}(o::{argument}) FROM unnest(%s::oid[]) o", (oids,))
    seen = {}
    for what, (statement, values) in calls.items():
        try:
            seen[what] = sorted(map(repr, reader.execute(statement, values)))
        except pg.Error as exc:
            seen[what] = [exc.sqlstate]
    return seen


async def test_another_projects_rows_change_nothing_that_a_reader_sees(
    reader, engine, settings, deadlines, database_url
):
    """Before and after: everything readable and callable is compared, but for what is allowed, with its reason."""
    relations, routines = readable_and_callable(database_url, reader.info.user)
    with psycopg.connect(database_url, autocommit=True) as owner:
        names = "SELECT oid FROM pg_class WHERE oid = ANY (%s::regclass[])"
        bases = [f"tollwatch.{name}" for name in ("payments", "payment_heads", "wallets", "agents")]
        oids = [row[0] for row in owner.execute(names, (bases,))]
        oids += [
            row[0]
            for row in owner.execute(
                "SELECT inhrelid FROM pg_inherits WHERE inhparent = 'tollwatch.payments'::regclass"
            )
        ]
        owner.execute("ANALYZE tollwatch.payments, tollwatch.payment_heads")
        before = look(reader, relations, routines, oids)
        theirs = await make_world(engine, name=MARK, agents=2)
        await facts(engine, deadlines, theirs, MARK, 100)
        other = await roles.create_reader(settings, MARK, deadlines)
        owner.execute("ANALYZE tollwatch.payments, tollwatch.payment_heads")
        after = look(reader, relations, routines, oids)
        login = other.split("//")[1].split(":")[0]
        owner.execute(f"DROP OWNED BY {login}")
        owner.execute(f"DROP ROLE {login}")
    assert [what for what, lines in after.items() if any(MARK in line for line in lines)] == []
    assert not any("tollwatch'" in line.split("pg_catalog")[0] for line in after["pg_catalog.pg_stats"])
    expected = re.compile("|".join(f"(?:{pattern})" for pattern in [*ALLOWED, *ROLES]))
    changed = [what for what in before if before[what] != after[what]]
    assert [what for what in changed if not expected.fullmatch(what)] == []
    assert "pg_catalog.pg_class" in changed, "the comparison sees what is known to differ"


ROLES = (
    r"pg_catalog\.pg_(roles|user|shadow|authid|auth_members|db_role_setting|shdepend|database|namespace)|information_schema\.\w+",
)
"""That a login was made for somebody, with its grants: its name is a number by chance."""


def estimate(reader, service):
    """Rows that the planner expects to read from the relation under the view, for the project's own and others' rows."""
    plan = f"EXPLAIN (FORMAT JSON) SELECT * FROM tollwatch_read.payments WHERE service = '{service}'"
    (found,) = reader.execute(plan).fetchone()
    nodes, expected = [found[0]["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "http://" in str(node.get("Filter", "")) or "http://" in str(node.get("Index Cond", "")):
            expected = max(expected, node["Plan Rows"])
    return expected


async def test_a_guess_at_a_value_tells_how_common_it_is_and_not_more(reader, engine, deadlines, database_url):
    """The leak that docs/decisions/0012 admits, shown: EXPLAIN weighs a filter with statistics of everyone's rows."""
    theirs = await make_world(engine, name=MARK, agents=1)
    await facts(engine, deadlines, theirs, MARK, 400)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("ANALYZE tollwatch.payments")
    assert estimate(reader, f"http://{MARK}") > estimate(reader, "http://nobody")
    with pytest.raises(pg.InsufficientPrivilege):
        reader.execute("SELECT * FROM pg_catalog.pg_statistic")
    ours = "SELECT count(*) FROM pg_stats WHERE schemaname ~ '^(tollwatch|_timescaledb)'"
    assert reader.execute(ours).fetchone() == (0,)
