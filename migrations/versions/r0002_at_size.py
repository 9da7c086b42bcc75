"""At size: what hundreds of millions of rows need.

First the rollups by service, whoever paid or asked, for questions about a whole project, and indexes of those by agent,
which are no longer few among those of thousands. Then `r0002/up` in the order of its names, `r0002/down` in the
reverse; `10_name.community.sql` on that edition only.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy import text

from migrations import frozen

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("r0002")
FIRST = Path(__file__).with_name("r0001")
ROLLUPS = [
    (f"{rollup}_{width}", relation)
    for width in ("hourly", "daily")
    for rollup, relation in (
        ("service_payments", "payments"),
        ("service_requests", "api_requests"),
        ("service_latency", "api_requests"),
    )
]
"""(rollup, relation): hours before days. Each is made of rows that are there already."""
BY_AGENT = [
    f"{rollup}_{width}"
    for width in ("hourly", "daily")
    for rollup in ("payments", "requests", "request_latency", "balances")
]
TOKENS = ("payments_hourly", "payments_daily")
"""Views in which whole tokens of a row cost a multiplication from now on, where they cost a power and a division."""
FAILED = "(project_id, agent_id, status, ts, id) WHERE status IN ('failed', 'reverted', 'unknown', 'retrying')"
"""What of payments has an index: those that went wrong are few among all of an agent; the others do not pay for it."""
LATENCY = r"((?:api_requests\.)?latency_ms)"
UNGUARDED = rf"\({LATENCY}\)::double precision"
GUARDED = rf"\(GREATEST\({LATENCY}, \(1\)::bigint\)\)::double precision"
QUERIES = """
SELECT v.* FROM _timescaledb_catalog.continuous_agg c,
  LATERAL (VALUES (direct_view_schema, direct_view_name), (partial_view_schema, partial_view_name)) v
WHERE (c.user_view_schema, c.user_view_name) = ('tollwatch', 'request_latency_hourly')
"""


def upgrade() -> None:
    """Make what is new, in the way of the edition that the first migration recorded."""
    edition = frozen.recorded_edition()
    _reword_latency(edition, UNGUARDED, r"(GREATEST(\1, (1)::bigint))::double precision")
    with frozen.patiently():
        for rollup, relation in ROLLUPS:
            _create_by_service(rollup, relation, edition)
        _create_indexes("tollwatch" if edition == "community" else "tollwatch_internal")
    frozen.create_index("payments_failed_idx", "payments", FAILED)
    frozen.run_all(FROZEN / "up", edition)
    for view in TOKENS:
        frozen.replace_view(FROZEN / "views" / f"{view}.sql")


def downgrade() -> None:
    """Undo it, last first."""
    edition = frozen.recorded_edition()
    for view in TOKENS:
        frozen.replace_view(FIRST / "views" / f"{view}.sql")
    frozen.run_all(FROZEN / "down", edition, reverse=True)
    frozen.send("DROP INDEX tollwatch.payments_failed_idx")
    schema = "_timescaledb_internal" if edition == "community" else "tollwatch_internal"
    for index in ("requests_hourly_skipped", *(f"{rollup}_agent" for rollup in reversed(BY_AGENT))):
        frozen.send(f"DROP INDEX {schema}.{index}")
    for rollup, _ in reversed(ROLLUPS):
        frozen.send(f"DROP VIEW tollwatch_read.{rollup}")
        frozen.drop_rollup(rollup, edition)
    _reword_latency(edition, GUARDED, r"(\1)::double precision")


def _create_by_service(rollup: str, relation: str, edition: str) -> None:
    """Create it; on community store.rollups.fill reads the past in later, as a refresh cannot run in a migration."""
    frozen.create_rollup(FROZEN, rollup, relation, edition)
    if edition != "community":
        frozen.fill_own_rollup(FROZEN, rollup, relation, edition)
    frozen.run(FROZEN / "views" / f"{rollup}.sql")


def _create_indexes(schema: str) -> None:
    """By agent; and of attempts that an open breaker held back, which are few: each one's price is looked up."""
    for rollup in BY_AGENT:
        frozen.send(f"CREATE INDEX {rollup}_agent ON {schema}.{rollup} (project_id, agent_id, bucket)")
    frozen.send(
        f"CREATE INDEX requests_hourly_skipped ON {schema}.requests_hourly (project_id, bucket) "
        "WHERE outcome = 'skipped_open'"
    )


def _reword_latency(edition: str, old: str, new: str) -> None:
    """Keep nought out of the logarithm: on columnstore TimescaleDB computes each branch of a CASE for every row.

    A continuous aggregate has three queries: two views of TimescaleDB's, and the one that is read, which TimescaleDB
    makes of them each time that the aggregate becomes a real-time one.
    """
    rollup = "request_latency_hourly"
    if edition != "community":
        frozen.reword("tollwatch", rollup, old, new)
        return
    for schema, view in op.get_bind().execute(text(QUERIES)):
        frozen.reword(schema, view, old, new)
    for only in ("true", "false"):
        frozen.send(f"ALTER MATERIALIZED VIEW tollwatch.{rollup} SET (timescaledb.materialized_only = {only})")
