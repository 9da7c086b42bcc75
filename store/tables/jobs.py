"""Jobs: how the collector's runs ended, so that another process can tell."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from store.tables.base import Instant, Word, metadata, one_of

job_runs = Table(
    "job_runs",
    metadata,
    Column("job", Word, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("outcome", Word, nullable=False),
    Column("succeeded_at", Instant),
    Column("failed_at", Instant),
    Column("failure", Text),
    one_of("outcome", ("ok", "failed", "timeout")),
    comment="The newest run of each job of the collector; failure: of the newest that failed, at failed_at.",
)
