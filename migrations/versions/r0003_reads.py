"""Reads: one agent's payments and requests and the newest samples are found by index, rollups of our own planned well.

A view of such a rollup has the rows below a watermark and a live tail from it on. The planner does not know the
watermark when it plans. Beside bounds that it does know it took a two-hundredth of the rows below, and walked an index
for each; with no bound beside it, it took a third of the tail's partition, and read all of it.

So the first comparison is put where it is no bound of a range (`IS TRUE` is estimated apart), and the second gets an
upper bound that is always true, so that it is one. Their figures stay; continuous aggregates have no such view.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from pathlib import Path

from migrations import frozen

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FIRST = Path(__file__).with_name("r0001")
AT_SIZE = Path(__file__).with_name("r0002")
VIEW = Path(__file__).with_name("r0003") / "own_rollup.sql"
INDEXES = {
    "payments_agent_idx": ("payments", "(project_id, agent_id, ts)"),
    "api_requests_agent_idx": ("api_requests", "(project_id, agent_id, ts)"),
    "balance_samples_ts_idx": ("balance_samples", "(ts)"),
}
"""Index → its relation, and of what it is. Samples have their key by wallet, and a rollup's live tail asks by time."""
ROLLUPS = {
    "payments": ("payments", "service_payments"),
    "api_requests": ("requests", "request_latency", "service_requests", "service_latency"),
    "balance_samples": ("balances",),
    "audit_events": ("audit",),
}
"""Relation → its rollups; each by the hour and by the day."""


def upgrade() -> None:
    """Indexes, and bounds that the planner estimates well."""
    for index, (relation, of) in INDEXES.items():
        frozen.create_index(index, relation, of)
    _replace_views(below="({time} < {watermark}) IS TRUE", tail="{time} >= {watermark} AND {time} < 'infinity'")


def downgrade() -> None:
    """Bounds as they were, and no such indexes."""
    _replace_views(below="{time} < {watermark}", tail="{time} >= {watermark}")
    for index in reversed(INDEXES):
        frozen.send(f"DROP INDEX tollwatch.{index}")


def _replace_views(*, below: str, tail: str) -> None:
    edition = frozen.recorded_edition()
    if edition == "community":
        return
    for relation, rollups in ROLLUPS.items():
        for rollup in (f"{name}_{width}" for name in rollups for width in ("hourly", "daily")):
            newest = AT_SIZE if (AT_SIZE / "rollups" / f"{rollup}.sql").exists() else FIRST
            watermark = frozen.watermark_of(rollup, relation)
            live = tail.format(time=frozen.time_of(newest, rollup, relation), watermark=watermark)
            tail_rows = frozen.query_of(newest, rollup, edition, live)
            rows = below.format(time="bucket", watermark=watermark)
            frozen.run(VIEW, rollup=rollup, below=rows, live=tail_rows)
