"""Totals: what was folded out of the rollups, so that counters never fall."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Numeric, Table

from store.tables.base import Instant, Word, metadata, project

totals_state = Table(
    "totals_state",
    metadata,
    Column("relation", Word, primary_key=True),
    Column("folded_until", Instant, nullable=False),
    comment="Rollup buckets before folded_until are in the totals; those from it on are added when read.",
)

payment_totals = Table(
    "payment_totals",
    metadata,
    project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("asset_id", Integer, primary_key=True),
    Column("status", Word, primary_key=True),
    Column("origin", Word, primary_key=True),
    Column("payments", BigInteger, nullable=False),
    Column("amount", Numeric(78, 0), nullable=False),
)

request_totals = Table(
    "request_totals",
    metadata,
    project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("service", Word, primary_key=True),
    Column("outcome", Word, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("latency_ms_sum", Numeric(78, 0), nullable=False),
)

latency_totals = Table(
    "latency_totals",
    metadata,
    project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("service", Word, primary_key=True),
    Column("latency_bucket", Integer, primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

audit_totals = Table(
    "audit_totals",
    metadata,
    project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("event_type", Word, primary_key=True),
    Column("severity", Word, primary_key=True),
    Column("component", Word, primary_key=True),
    Column("events", BigInteger, nullable=False),
    comment="agent_id 0: an event of no agent.",
)
