"""Every table, declared once. Alembic compares the database with `metadata`; `alembic check` stays clean.

Facts (`FACTS`) are append-only, keyed (project_id, ts, id), partitioned by `ts`, and are never the target of a foreign
key. Heads are derived from them in the fact's own transaction. Amounts are integers of atomic units.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

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
SCOPES = ("ingest", "ingest:facilitator", "read", "metrics", "admin")

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    },
)

Instant = DateTime(timezone=True)
Word = Text(collation="C")
NOW = text("now()")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _finite(column: str = "ts") -> CheckConstraint:
    return CheckConstraint(f"isfinite({column})", name=f"{column}_finite")


def _not_negative(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative")


def _kept() -> list[Column[object]]:
    return [
        Column("created_at", Instant, nullable=False, server_default=NOW),
        Column("updated_at", Instant, nullable=False, server_default=NOW),
        Column("archived_at", Instant),
    ]


def _project(*, primary_key: bool = False) -> Column[int]:
    return Column("project_id", Integer, ForeignKey(f"{SCHEMA}.projects.id"), nullable=False, primary_key=primary_key)


def _said() -> list[Column[object]]:
    return [
        Column("origin", Word, nullable=False),
        Column("recorded_at", Instant, nullable=False, server_default=NOW),
    ]


schema_info = Table(
    "schema_info",
    metadata,
    Column(
        "one_row", Boolean, CheckConstraint("one_row", name="one_row"), primary_key=True, server_default=text("true")
    ),
    Column("edition", Word, nullable=False),
    Column("timescaledb_version", Word),
    Column("horizons", JSONB, nullable=False, server_default=text("'{}'")),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    _one_of("edition", ("plain", "apache", "community")),
    comment="One row: the edition found at the first migration, and the horizons that policies were made for.",
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Word, nullable=False, unique=True),
    *_kept(),
)

project_roles = Table(
    "project_roles",
    metadata,
    Column("role", Word, primary_key=True),
    _project(),
    Column("purpose", Word, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    _one_of("purpose", ("owner", "writer", "reader")),
    comment="Which project a database login may see: barrier views compare session_user with it.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    _project(),
    Column("name", Text, nullable=False),
    Column("prefix", Word, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Word), nullable=False),
    Column("rate_limit", Integer),
    Column("last_used_at", Instant),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("created_by", Text, nullable=False),
    *_kept(),
    Index(None, "project_id"),
)

agents = Table(
    "agents",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    _project(),
    Column("name", Word, nullable=False),
    Column("autonomy_phase", Word, nullable=False, server_default="demo"),
    Column("network", Word, nullable=False),
    Column("api_endpoints", JSONB, nullable=False, server_default=text("'[]'")),
    Column("priority_rules", JSONB, nullable=False, server_default=text("'{}'")),
    Column("max_retries", SmallInteger, nullable=False, server_default=text("3")),
    Column("low_balance_threshold", Numeric(38, 18), nullable=False, server_default=text("0.01")),
    Column("breaker_timeout_s", Integer, nullable=False, server_default=text("300")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    *_kept(),
    UniqueConstraint("project_id", "name"),
    _one_of("autonomy_phase", AUTONOMY_PHASES),
    comment="low_balance_threshold is in whole tokens: the fallback where a wallet names none for an asset.",
)

assets = Table(
    "assets",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("project_id", Integer, ForeignKey(f"{SCHEMA}.projects.id")),
    Column("network", Word, nullable=False),
    Column("mint", LargeBinary),
    Column("symbol", Word, nullable=False),
    Column("decimals", SmallInteger),
    Column("token_program", LargeBinary),
    Column("registered", Boolean, nullable=False),
    *_kept(),
    UniqueConstraint("project_id", "network", "mint", postgresql_nulls_not_distinct=True),
    comment="project_id NULL: known to everyone. Unregistered ones were named by an event; their symbol is the mint.",
)

wallets = Table(
    "wallets",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    _project(),
    Column("agent_id", Integer, ForeignKey(f"{SCHEMA}.agents.id")),
    Column("network", Word, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("address_text", Word, nullable=False),
    Column("registered", Boolean, nullable=False),
    *_kept(),
    UniqueConstraint("project_id", "network", "address"),
    Index(None, "agent_id"),
    comment="Unregistered ones were named by an event: kept as evidence, not sampled.",
)

wallet_thresholds = Table(
    "wallet_thresholds",
    metadata,
    Column("wallet_id", Integer, ForeignKey(f"{SCHEMA}.wallets.id"), primary_key=True),
    Column("asset_id", Integer, ForeignKey(f"{SCHEMA}.assets.id"), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    _not_negative("amount"),
)

wallet_sessions = Table(
    "wallet_sessions",
    metadata,
    _project(primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("agent_id", Integer, ForeignKey(f"{SCHEMA}.agents.id"), nullable=False),
    Column("wallet_id", Integer, ForeignKey(f"{SCHEMA}.wallets.id"), nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("scope", JSONB, nullable=False, server_default=text("'{}'")),
    Column("tx_used", Integer, nullable=False, server_default=text("0")),
    Column("status", Word, nullable=False),
    Column("delegated_at", Instant),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    *_kept(),
    UniqueConstraint("project_id", "token_hash"),
    Index(None, "agent_id"),
    _one_of("status", SESSION_STATUSES),
    _not_negative("tx_used"),
    comment="What an agent may spend from a wallet: scope {permissions, tx_limit, duration_s}. No token is stored.",
)

audit_resolutions = Table(
    "audit_resolutions",
    metadata,
    _project(primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("event_ts", Instant, nullable=False),
    Column("resolved_by", Text, nullable=False),
    Column("resolved_at", Instant, nullable=False),
    Column("note", Text),
    Column("automatic", Boolean, nullable=False),
    comment="Who dealt with an audit event, and when. breaker_closed resolves breaker_opened (automatic).",
)

balance_samples = Table(
    "balance_samples",
    metadata,
    Column("project_id", Integer, nullable=False),
    Column("wallet_id", Integer, nullable=False),
    Column("asset_id", Integer, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("agent_id", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("slot", BigInteger, nullable=False),
    Column("commitment", Word, nullable=False),
    Column("threshold", BigInteger),
    Column("status", Word, nullable=False),
    Column("reason", Text),
    Column("change", BigInteger),
    *_said(),
    PrimaryKeyConstraint("project_id", "wallet_id", "asset_id", "ts"),
    _finite(),
    _not_negative("amount"),
    _one_of("status", BALANCE_STATUSES),
    _one_of("commitment", COMMITMENTS),
    _one_of("origin", ORIGINS),
    comment="change: since the newest sample before it by slot; NULL for the first and for one that came late.",
)

payments = Table(
    "payments",
    metadata,
    Column("project_id", Integer, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("payment_id", Uuid, nullable=False),
    Column("request_id", Uuid),
    Column("x402_payment_id", Text),
    Column("agent_id", Integer, nullable=False),
    Column("wallet_id", Integer),
    Column("session_id", Uuid),
    Column("status", Word, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("asset_id", Integer, nullable=False),
    Column("pay_to", LargeBinary),
    Column("service", Word, nullable=False),
    Column("resource", Text),
    Column("facilitator", Word),
    Column("signature", LargeBinary),
    Column("slot", BigInteger),
    Column("commitment", Word),
    Column("confirmations", Integer),
    Column("fee_lamports", BigInteger),
    Column("retry_count", SmallInteger, nullable=False),
    Column("backoff_ms", BigInteger, nullable=False),
    Column("is_duplicate", Boolean, nullable=False),
    Column("error_type", Word),
    Column("failure_reason", Text),
    Column("facilitator_response", JSONB),
    Column("metadata", JSONB),
    *_said(),
    PrimaryKeyConstraint("project_id", "ts", "id"),
    _finite(),
    _not_negative("amount"),
    _one_of("status", PAYMENT_STATUSES),
    _one_of("origin", ORIGINS),
    Index(
        "payments_session_idx",
        "project_id",
        "session_id",
        "ts",
        postgresql_where=text("session_id IS NOT NULL"),
    ),
    comment="One row per transition of a payment; is_duplicate rows add to no sum.",
)

api_requests = Table(
    "api_requests",
    metadata,
    Column("project_id", Integer, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("max_retries", SmallInteger, nullable=False),
    Column("agent_id", Integer, nullable=False),
    Column("wallet_id", Integer),
    Column("session_id", Uuid),
    Column("service", Word, nullable=False),
    Column("endpoint_type", Word),
    Column("resource", Text),
    Column("method", Word),
    Column("response_status", SmallInteger),
    Column("x402_version", SmallInteger),
    Column("payment_required", JSONB),
    Column("payment_id", Uuid),
    Column("paid", Boolean, nullable=False),
    Column("latency_ms", BigInteger),
    Column("backoff_ms", BigInteger, nullable=False),
    Column("component", Word),
    Column("breaker_state", Word),
    Column("outcome", Word, nullable=False),
    Column("error_type", Word),
    Column("failure_reason", Text),
    Column("request_digest", LargeBinary),
    Column("response_digest", LargeBinary),
    Column("response_bytes", BigInteger),
    Column("data_as_of", Instant),
    *_said(),
    PrimaryKeyConstraint("project_id", "ts", "id"),
    _finite(),
    _one_of("outcome", OUTCOMES),
    _one_of("origin", ORIGINS),
    CheckConstraint("attempt BETWEEN 1 AND max_retries + 1", name="attempt"),
    Index(None, "project_id", "request_id", "ts"),
    comment="One row per attempt of a logical request.",
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("project_id", Integer, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("event_type", Word, nullable=False),
    Column("severity", Word, nullable=False),
    Column("agent_id", Integer),
    Column("component", Word),
    Column("request_id", Uuid),
    Column("entity_type", Word),
    Column("entity_id", Word),
    Column("details", JSONB),
    *_said(),
    PrimaryKeyConstraint("project_id", "ts", "id"),
    _finite(),
    _one_of("severity", SEVERITIES),
    _one_of("origin", ORIGINS),
    Index(
        "audit_events_breaker_idx",
        "project_id",
        "agent_id",
        "component",
        "ts",
        postgresql_where=text("event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed')"),
    ),
)

queue_events = Table(
    "queue_events",
    metadata,
    Column("project_id", Integer, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("agent_id", Integer, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("state", Word, nullable=False),
    Column("priority_score", Double),
    Column("reason", Word),
    Column("asset_id", Integer),
    Column("balance", BigInteger),
    Column("freshness_s", BigInteger),
    *_said(),
    PrimaryKeyConstraint("project_id", "ts", "id"),
    _finite(),
    _one_of("state", QUEUE_STATES),
    _one_of("reason", QUEUE_REASONS),
    _one_of("origin", ORIGINS),
    comment="A request that an agent put off: balance and freshness at the decision.",
)

FACTS = (balance_samples, payments, api_requests, audit_events, queue_events)
"""Partitioned by ts, append-only."""

payment_heads = Table(
    "payment_heads",
    metadata,
    _project(primary_key=True),
    Column("payment_id", Uuid, primary_key=True),
    Column("agent_id", Integer, nullable=False),
    Column("asset_id", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("told", Integer, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("status", Word, nullable=False),
    Column("origin", Word, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("opened_ts", Instant, nullable=False),
    Column("request_id", Uuid),
    Column("signature", LargeBinary),
    Index("payment_heads_open_idx", "project_id", "opened_ts", postgresql_where=text("rank < 100")),
    comment="Present state of a payment: its highest-ranking transition. told: bit set of the statuses counted.",
)

payment_settlements = Table(
    "payment_settlements",
    metadata,
    _project(primary_key=True),
    Column("signature", LargeBinary, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
    comment="Which payment a transaction settled: the same signature under another payment is a duplicate.",
)

balance_heads = Table(
    "balance_heads",
    metadata,
    _project(primary_key=True),
    Column("wallet_id", Integer, primary_key=True),
    Column("asset_id", Integer, primary_key=True),
    Column("agent_id", Integer, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("slot", BigInteger, nullable=False),
    Column("commitment", Word, nullable=False),
    Column("threshold", BigInteger),
    Column("status", Word, nullable=False),
    Column("reason", Text),
    comment="Latest balance by slot: never goes back to a lower slot.",
)

breaker_heads = Table(
    "breaker_heads",
    metadata,
    _project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("component", Word, primary_key=True),
    Column("state", Word, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("event_id", Uuid, nullable=False),
    _one_of("state", BREAKER_STATES),
)

queue_heads = Table(
    "queue_heads",
    metadata,
    _project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("state", Word, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("queued_ts", Instant),
    Column("priority_score", Double),
    Column("reason", Word),
    _one_of("state", QUEUE_STATES),
    Index("queue_heads_waiting_idx", "project_id", "agent_id", postgresql_where=text("state = 'queued'")),
    comment="Present state of a request that was put off: by time; at one time processed or dropped comes last.",
)

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
    _project(primary_key=True),
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
    _project(primary_key=True),
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
    _project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("service", Word, primary_key=True),
    Column("latency_bucket", Integer, primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

audit_totals = Table(
    "audit_totals",
    metadata,
    _project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("event_type", Word, primary_key=True),
    Column("severity", Word, primary_key=True),
    Column("component", Word, primary_key=True),
    Column("events", BigInteger, nullable=False),
    comment="agent_id 0: an event of no agent.",
)
