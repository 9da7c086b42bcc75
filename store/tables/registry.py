"""Plain tables: projects, keys, agents, assets, wallets, sessions, resolutions."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from store.tables.base import NOW, Instant, Word, kept, metadata, not_negative, one_of, positive, project
from store.tables.words import AUTONOMY_PHASES, SCHEMA, SESSION_STATUSES

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
    Column("installation", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
    one_of("edition", ("plain", "apache", "community")),
    comment="One row: the edition found at the first migration, and the horizons that policies were made for.",
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Word, nullable=False, unique=True),
    *kept(),
)

project_roles = Table(
    "project_roles",
    metadata,
    Column("role", Word, primary_key=True),
    project(),
    Column("purpose", Word, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    one_of("purpose", ("owner", "writer", "reader")),
    comment="Which project a database login may see: barrier views compare session_user with it.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    project(),
    Column("name", Text, nullable=False),
    Column("prefix", Word, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Word), nullable=False),
    Column("events_per_s", Integer),
    Column("bytes_per_s", BigInteger),
    Column("replaced_by", Integer, ForeignKey(f"{SCHEMA}.api_keys.id")),
    Column("last_used_at", Instant),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("created_by", Text, nullable=False),
    *kept(),
    Index(None, "project_id"),
    UniqueConstraint("prefix"),
    positive("events_per_s"),
    positive("bytes_per_s"),
    comment="A limit that is NULL: the process's default. The hash is SHA-256 of the whole key, which is kept nowhere.",
)

agents = Table(
    "agents",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    project(),
    Column("name", Word, nullable=False),
    Column("autonomy_phase", Word, nullable=False, server_default="demo"),
    Column("network", Word, nullable=False),
    Column("api_endpoints", JSONB, nullable=False, server_default=text("'[]'")),
    Column("priority_rules", JSONB, nullable=False, server_default=text("'{}'")),
    Column("max_retries", SmallInteger, nullable=False, server_default=text("3")),
    Column("low_balance_threshold", Numeric(38, 18), nullable=False, server_default=text("0.01")),
    Column("breaker_timeout_s", Integer, nullable=False, server_default=text("300")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    *kept(),
    UniqueConstraint("project_id", "name"),
    one_of("autonomy_phase", AUTONOMY_PHASES),
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
    *kept(),
    UniqueConstraint("project_id", "network", "mint", postgresql_nulls_not_distinct=True),
    comment="project_id NULL: known to everyone. Unregistered ones were named by an event; their symbol is the mint.",
)

wallets = Table(
    "wallets",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    project(),
    Column("agent_id", Integer, ForeignKey(f"{SCHEMA}.agents.id")),
    Column("network", Word, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("address_text", Word, nullable=False),
    Column("registered", Boolean, nullable=False),
    *kept(),
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
    not_negative("amount"),
)

wallet_sessions = Table(
    "wallet_sessions",
    metadata,
    project(primary_key=True),
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
    *kept(),
    UniqueConstraint("project_id", "token_hash"),
    Index(None, "agent_id"),
    one_of("status", SESSION_STATUSES),
    not_negative("tx_used"),
    comment="What an agent may spend from a wallet: scope {permissions, tx_limit, duration_s}. No token is stored.",
)

audit_resolutions = Table(
    "audit_resolutions",
    metadata,
    project(primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("event_ts", Instant, nullable=False),
    Column("resolved_by", Text, nullable=False),
    Column("resolved_at", Instant, nullable=False),
    Column("note", Text),
    Column("automatic", Boolean, nullable=False),
    comment="Who dealt with an audit event, and when. breaker_closed resolves breaker_opened (automatic).",
)
