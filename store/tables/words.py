"""The words that columns may hold, and the names of our schemas."""

from __future__ import annotations

SCHEMA = "tollwatch"
"""Base tables, heads and rollups. Owned by the migrating role."""
INTERNAL_SCHEMA = "tollwatch_internal"
"""Partitions, materialised rollups and their bookkeeping: never read by name outside `sql/`."""
READ_SCHEMA = "tollwatch_read"
"""Barrier views: all that a reader role sees."""

PAYMENT_STATUSES = ("unknown", "pending", "retrying", "verified", "failed", "settled", "reverted")
"""Lowest precedence first; see docs/decisions/0004."""
ORIGINS = ("agent", "facilitator", "chain", "collector", "import")
COMMITMENTS = ("processed", "confirmed", "finalized")
BALANCE_STATUSES = ("sufficient", "low", "paused")
OUTCOMES = ("ok", "payment_required", "retrying", "failed", "skipped_open")
BREAKER_STATES = ("closed", "open", "half_open")
SEVERITIES = ("debug", "info", "warning", "error", "critical")
AUTONOMY_PHASES = ("demo", "interactive", "full")
ERROR_TYPES = (
    "insufficient_funds",
    "network_failure",
    "rejected",
    "rpc_error",
    "timeout",
    "invalid_402",
    "upstream_error",
    "session_expired",
    "session_limit",
    "duplicate",
    "other",
)
QUEUE_STATES = ("queued", "processed", "dropped")
QUEUE_REASONS = ("funds", "breaker", "rpc")
SESSION_STATUSES = ("active", "expired", "revoked")
AUDIT_TYPES = (
    "payment_failure",
    "low_balance",
    "paused",
    "resumed",
    "top_up_requested",
    "topped_up",
    "breaker_opened",
    "breaker_half_opened",
    "breaker_closed",
    "retry_success",
    "retry_exhausted",
    "network_failure",
    "rate_limited",
    "session_created",
    "session_expired",
    "session_revoked",
    "session_limit_reached",
)
KEY_AUDIT_TYPES = ("key_created", "key_revoked", "key_rotated")
"""Written by Tollwatch alone, with the change that they tell of: ingest takes none of them."""
SCOPES = ("ingest", "ingest:facilitator", "read", "metrics", "admin")
