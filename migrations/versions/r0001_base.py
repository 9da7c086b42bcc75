"""The first schema: plain tables, facts, heads, hourly rollups, barrier views.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy import text

from migrations import frozen

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

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


def _rollups() -> list[tuple[str, str]]:
    """(rollup, relation): hours before days."""
    named = [(rollup, relation) for relation, rollups in ROLLUPS.items() for rollup in rollups]
    return [(f"{rollup}_{width}", relation) for width in ("hourly", "daily") for rollup, relation in named]


def upgrade() -> None:
    """Everything, for the edition that `store.migrate` found and set for this transaction."""
    edition = op.get_bind().execute(text("SELECT current_setting('tollwatch.edition')")).scalar_one()
    frozen.send("CREATE SCHEMA tollwatch_internal; CREATE SCHEMA tollwatch_read")
    frozen.run(FROZEN / "tables.sql", partitioned="PARTITION BY RANGE (ts)" if edition == "plain" else "")
    frozen.run(FROZEN / "functions.sql")
    frozen.run(FROZEN / "rows.sql", edition=edition)
    frozen.run(FROZEN / ("partitions.sql" if edition == "plain" else "hypertables.sql"))
    frozen.run(FROZEN / ("columnstore.sql" if edition == "community" else "own_rollups.sql"))
    for rollup, relation in _rollups():
        frozen.create_rollup(FROZEN, rollup, relation, edition)
    for view in CORE_VIEWS:
        frozen.run(FROZEN / "core_views" / f"{view}.sql")
    for barrier in sorted((FROZEN / "views").glob("*.sql")):
        frozen.run(barrier)


def downgrade() -> None:
    """Back to nothing but Alembic's own version table and the schema that holds it."""
    edition = frozen.recorded_edition()
    frozen.send("DROP SCHEMA tollwatch_read CASCADE")
    frozen.send(f"DROP VIEW {', '.join('tollwatch.' + view for view in CORE_VIEWS)}")
    for rollup, _ in reversed(_rollups()):
        frozen.drop_rollup(rollup, edition)
    for table in reversed(_tables()):  # TimescaleDB drops a hypertable only by itself
        frozen.send(f"DROP TABLE tollwatch.{table}")
    frozen.send("DROP FUNCTION tollwatch.payment_rank, tollwatch.payment_bit")
    frozen.send("DROP SCHEMA tollwatch_internal CASCADE")


def _tables() -> list[str]:
    lines = (FROZEN / "tables.sql").read_text(encoding="utf-8").splitlines()
    return [line.split()[2].removeprefix("tollwatch.") for line in lines if line.startswith("CREATE TABLE")]
