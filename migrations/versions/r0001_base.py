"""The first schema: plain tables, facts, heads, hourly rollups, barrier views.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AS_IS = {"no_parameters": True}
"""Send a script as it is: several statements, and % is just a character."""
FROZEN = Path(__file__).with_name("r0001")
ROLLUPS = {
    "payments": ("payments",),
    "api_requests": ("requests", "request_latency"),
    "balance_samples": ("balances",),
    "audit_events": ("audit",),
}
"""Relation → its rollups; each is there by the hour, from the facts, and by the day (UTC), from the hours."""
CORE_VIEWS = (
    "breaker_intervals",
    "open_payments",
    "queue_state",
    "session_usage",
    "runway",
    "spend_by_service",
    "retry_health",
    "audit_trail",
)
"""Views over everyone's rows, for the services; each has a barrier view of its name for readers."""


def _run(name: str, **values: str) -> None:
    script = (FROZEN / name).read_text(encoding="utf-8")
    for key, value in values.items():
        script = script.replace("{" + key + "}", value)
    op.get_bind().exec_driver_sql(script, execution_options=AS_IS)


def _rollup_select(rollup: str, edition: str, within: str) -> str:
    script = (FROZEN / "rollups" / f"{rollup}.sql").read_text(encoding="utf-8")
    bucket = "tollwatch_internal.time_bucket" if edition == "plain" else "public.time_bucket"
    return script.replace("{time_bucket}", bucket).replace("{range}", within)


def _create_rollup(rollup: str, relation: str, edition: str) -> None:
    if edition == "community":
        _run("continuous_aggregate.sql", rollup=rollup, select=_rollup_select(rollup, edition, "true"))
        return
    state = "tollwatch_internal.rollup_state"
    watermark = f"(SELECT watermark FROM {state} WHERE relation = '{relation}')"  # noqa: S608
    time = "ts"
    if rollup.endswith("_daily"):
        time = "bucket"
        watermark = watermark.replace(
            "watermark", "date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz)", 1
        )
    _run(
        "own_rollup.sql",
        rollup=rollup,
        watermark=watermark,
        nothing=_rollup_select(rollup, edition, "true"),
        live=_rollup_select(rollup, edition, f"{time} >= {watermark}"),
    )


def _rollups() -> list[tuple[str, str]]:
    """(rollup, relation): hours before days."""
    named = [(rollup, relation) for relation, rollups in ROLLUPS.items() for rollup in rollups]
    return [(f"{rollup}_{width}", relation) for width in ("hourly", "daily") for rollup, relation in named]


def upgrade() -> None:
    """Everything, for the edition that `store.migrate` found and set for this transaction."""
    bind = op.get_bind()
    edition = bind.execute(text("SELECT current_setting('tollwatch.edition')")).scalar_one()
    bind.exec_driver_sql("CREATE SCHEMA tollwatch_internal; CREATE SCHEMA tollwatch_read", execution_options=AS_IS)
    _run("tables.sql", partitioned="PARTITION BY RANGE (ts)" if edition == "plain" else "")
    _run("functions.sql")
    _run("rows.sql", edition=edition)
    _run("partitions.sql" if edition == "plain" else "hypertables.sql")
    _run("columnstore.sql" if edition == "community" else "own_rollups.sql")
    for rollup, relation in _rollups():
        _create_rollup(rollup, relation, edition)
    for view in CORE_VIEWS:
        _run(f"core_views/{view}.sql")
    for barrier in sorted((FROZEN / "views").glob("*.sql")):
        _run(f"views/{barrier.name}")


def downgrade() -> None:
    """Back to nothing but Alembic's own version table and the schema that holds it."""
    bind = op.get_bind()
    edition = bind.execute(text("SELECT edition FROM tollwatch.schema_info")).scalar_one()
    bind.exec_driver_sql("DROP SCHEMA tollwatch_read CASCADE")
    bind.exec_driver_sql(f"DROP VIEW {', '.join('tollwatch.' + view for view in CORE_VIEWS)}")
    for rollup, _ in reversed(_rollups()):
        bind.exec_driver_sql(f"DROP {'MATERIALIZED VIEW' if edition == 'community' else 'VIEW'} tollwatch.{rollup}")
    for table in reversed(_tables()):  # TimescaleDB drops a hypertable only by itself
        bind.exec_driver_sql(f"DROP TABLE tollwatch.{table}")
    bind.exec_driver_sql("DROP FUNCTION tollwatch.payment_rank, tollwatch.payment_bit")
    bind.exec_driver_sql("DROP SCHEMA tollwatch_internal CASCADE")


def _tables() -> list[str]:
    lines = (FROZEN / "tables.sql").read_text(encoding="utf-8").splitlines()
    return [line.split()[2].removeprefix("tollwatch.") for line in lines if line.startswith("CREATE TABLE")]
