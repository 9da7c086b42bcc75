"""Every table, declared once. Alembic compares the database with `metadata`; `alembic check` stays clean.

    words ──► base ──► registry, facts, heads, totals, jobs

Amounts are integers of atomic units. Times are finite. Ordered text is COLLATE "C".
"""

from __future__ import annotations

from store.tables.base import metadata
from store.tables.facts import FACTS, api_requests, audit_events, balance_samples, payments, queue_events
from store.tables.heads import balance_heads, breaker_heads, payment_heads, payment_settlements, queue_heads
from store.tables.jobs import job_runs
from store.tables.registry import (
    agents,
    api_keys,
    assets,
    audit_resolutions,
    project_roles,
    projects,
    schema_info,
    wallet_sessions,
    wallet_thresholds,
    wallets,
)
from store.tables.totals import audit_totals, latency_totals, payment_totals, request_totals, totals_state
from store.tables.words import (
    AUDIT_TYPES,
    AUTONOMY_PHASES,
    BALANCE_STATUSES,
    BREAKER_STATES,
    COMMITMENTS,
    ERROR_TYPES,
    INTERNAL_SCHEMA,
    KEY_AUDIT_TYPES,
    ORIGINS,
    OUTCOMES,
    PAYMENT_STATUSES,
    QUEUE_REASONS,
    QUEUE_STATES,
    READ_SCHEMA,
    SCHEMA,
    SCOPES,
    SESSION_STATUSES,
    SEVERITIES,
)

__all__ = [
    "AUDIT_TYPES",
    "AUTONOMY_PHASES",
    "BALANCE_STATUSES",
    "BREAKER_STATES",
    "COMMITMENTS",
    "ERROR_TYPES",
    "FACTS",
    "INTERNAL_SCHEMA",
    "KEY_AUDIT_TYPES",
    "ORIGINS",
    "OUTCOMES",
    "PAYMENT_STATUSES",
    "QUEUE_REASONS",
    "QUEUE_STATES",
    "READ_SCHEMA",
    "SCHEMA",
    "SCOPES",
    "SESSION_STATUSES",
    "SEVERITIES",
    "agents",
    "api_keys",
    "api_requests",
    "assets",
    "audit_events",
    "audit_resolutions",
    "audit_totals",
    "balance_heads",
    "balance_samples",
    "breaker_heads",
    "job_runs",
    "latency_totals",
    "metadata",
    "payment_heads",
    "payment_settlements",
    "payment_totals",
    "payments",
    "project_roles",
    "projects",
    "queue_events",
    "queue_heads",
    "request_totals",
    "schema_info",
    "totals_state",
    "wallet_sessions",
    "wallet_thresholds",
    "wallets",
]
