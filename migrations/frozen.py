"""What revisions share: sending frozen scripts, and making a rollup in the way of the edition.

A change here must leave what an old revision makes as it is: compare the catalogues (tests/store/catalogue.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import op
from sqlalchemy import text

AS_IS = {"no_parameters": True}
"""Send a script as it is: several statements, and % is just a character."""
TEMPLATES = Path(__file__).with_name("versions") / "r0001"
"""The two ways of making a rollup, unchanged since the first revision."""
LARGE = 256 * 1024**2
"""Bytes of a relation above which an index of its rows is made with its next partitions only."""
SIZE = """
SELECT coalesce(sum(pg_table_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = CAST(:relation AS regclass)
"""


def recorded_edition() -> str:
    """'plain', 'apache' or 'community', as the first revision recorded it."""
    return str(op.get_bind().execute(text("SELECT edition FROM tollwatch.schema_info")).scalar_one())


def send(statements: str) -> None:
    """Run statements as they are."""
    op.get_bind().exec_driver_sql(statements, execution_options=AS_IS)


def run(script: Path, **values: str) -> None:
    """Run one script, with each {name} that `values` has filled in."""
    statements = script.read_text(encoding="utf-8")
    for key, value in values.items():
        statements = statements.replace("{" + key + "}", value)
    send(statements)


def replace_view(script: Path) -> None:
    """Give a view the query that its script creates it with; columns and rights stay."""
    send(script.read_text(encoding="utf-8").replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))


def create_index(index: str, relation: str, of: str) -> None:
    """Make an index of a relation's facts; `of` is what follows the relation's name.

    A large relation gets it with its next partition: to build it on all would hold off whoever writes.
    """
    size = op.get_bind().execute(text(SIZE), {"relation": f"tollwatch.{relation}"}).scalar_one()
    send(f"CREATE INDEX {index} ON {'ONLY ' if size > LARGE else ''}tollwatch.{relation} {of}")


def run_all(folder: Path, edition: str, *, reverse: bool = False) -> None:
    """Run `folder`'s scripts in the order of their names; `10_name.community.sql` on that edition only."""
    for script in sorted(folder.glob("*.sql"), reverse=reverse):
        _, _, only = script.stem.partition(".")
        if only in ("", edition):
            run(script)


@contextmanager
def patiently() -> Iterator[None]:
    """Let a statement take an hour, where it reads many rows and holds no lock that a writer waits for."""
    bind = op.get_bind()
    allowed = bind.execute(text("SELECT current_setting('statement_timeout')")).scalar_one()
    bind.execute(text("SET LOCAL statement_timeout = '1h'"))
    yield
    bind.execute(text("SELECT set_config('statement_timeout', :allowed, true)"), {"allowed": allowed})


def create_rollup(folder: Path, rollup: str, relation: str, edition: str) -> None:
    """Make `folder/rollups/<rollup>.sql` over `relation`: a continuous aggregate, or a table and a view of our own."""
    if edition == "community":
        run(TEMPLATES / "continuous_aggregate.sql", rollup=rollup, select=query_of(folder, rollup, edition, "true"))
        return
    watermark = watermark_of(rollup, relation)
    run(
        TEMPLATES / "own_rollup.sql",
        rollup=rollup,
        watermark=watermark,
        nothing=query_of(folder, rollup, edition, "true"),
        live=query_of(folder, rollup, edition, f"{time_of(folder, rollup, relation)} >= {watermark}"),
    )


def fill_own_rollup(folder: Path, rollup: str, relation: str, edition: str) -> None:
    """Materialise what is below the watermark, for a rollup of our own that is younger than its rows."""
    below = f"{time_of(folder, rollup, relation)} < {watermark_of(rollup, relation)}"
    send(f"INSERT INTO tollwatch_internal.{rollup}\n{query_of(folder, rollup, edition, below)}")


def drop_rollup(rollup: str, edition: str) -> None:
    """Undo `create_rollup`."""
    if edition == "community":
        send(f"DROP MATERIALIZED VIEW tollwatch.{rollup}")
    else:
        send(f"DROP VIEW tollwatch.{rollup}; DROP TABLE tollwatch_internal.{rollup}")


def reword(schema: str, view: str, pattern: str, replacement: str) -> None:
    """Change an expression of a view in place. Its owner may even where the schema is not his, but only by its rule."""
    bind = op.get_bind()
    named = {"schema": schema, "view": f"{schema}.{view}"}
    definition = bind.execute(text("SELECT pg_get_viewdef(CAST(:view AS regclass))"), named).scalar_one()
    reworded, times = re.subn(pattern, replacement, definition)
    if not times:
        raise ValueError(
            f"the query of {schema}.{view} has nothing like {pattern}: it was changed by hand, put it back"
        )
    if bind.execute(text("SELECT has_schema_privilege(:schema, 'CREATE')"), named).scalar_one():
        send(f"CREATE OR REPLACE VIEW {schema}.{view} AS {reworded}")
    else:
        send(f'CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO {schema}.{view} DO INSTEAD {reworded}')


def query_of(folder: Path, rollup: str, edition: str, within: str) -> str:
    """A rollup's frozen query, over what is `within` a condition."""
    script = (folder / "rollups" / f"{rollup}.sql").read_text(encoding="utf-8").rstrip()
    bucket = "tollwatch_internal.time_bucket" if edition == "plain" else "public.time_bucket"
    return script.replace("{time_bucket}", bucket).replace("{range}", within)


def time_of(folder: Path, rollup: str, relation: str) -> str:
    """The column that bounds what is read: the time of facts, the bucket of another rollup."""
    return "ts" if f"FROM tollwatch.{relation}\n" in query_of(folder, rollup, "plain", "true") else "bucket"


def watermark_of(rollup: str, relation: str) -> str:
    """The query of the bucket from which on a rollup of our own is aggregated when it is read."""
    watermark = "watermark"
    if rollup.endswith("_daily"):
        watermark = "date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz)"
    return f"(SELECT {watermark} FROM tollwatch_internal.rollup_state WHERE relation = '{relation}')"  # noqa: S608
