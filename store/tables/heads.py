"""Heads: derived, rebuildable, moved in the fact's own transaction."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, SmallInteger, Table, Text, Uuid, text

from store.tables.base import Instant, Word, metadata, one_of, project
from store.tables.words import BREAKER_STATES, QUEUE_STATES


def _project() -> Column[int]:
    """Whose row it is. Not a foreign key: the fact's project exists, and looking it up again is a sixth of a write."""
    return Column("project_id", Integer, primary_key=True)


payment_heads = Table(
    "payment_heads",
    metadata,
    _project(),
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
    Column("last_ts", Instant, nullable=False, server_default=text("now()")),
    Index("payment_heads_open_idx", "project_id", "opened_ts", postgresql_where=text("rank < 100")),
    comment="Present state of a payment: its highest-ranking transition. told: bit set of the statuses counted.",
)

payment_settlements = Table(
    "payment_settlements",
    metadata,
    _project(),
    Column("signature", LargeBinary, primary_key=True),
    Column("payment_id", Uuid, nullable=False),
    comment="Which payment a transaction settled: the same signature under another payment is a duplicate.",
)

balance_heads = Table(
    "balance_heads",
    metadata,
    project(primary_key=True),
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
    project(primary_key=True),
    Column("agent_id", Integer, primary_key=True),
    Column("component", Word, primary_key=True),
    Column("state", Word, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("event_id", Uuid, nullable=False),
    one_of("state", BREAKER_STATES),
)

queue_heads = Table(
    "queue_heads",
    metadata,
    _project(),
    Column("agent_id", Integer, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("state", Word, nullable=False),
    Column("ts", Instant, nullable=False),
    Column("queued_ts", Instant),
    Column("priority_score", Double),
    Column("reason", Word),
    one_of("state", QUEUE_STATES),
    Index("queue_heads_waiting_idx", "project_id", "agent_id", postgresql_where=text("state = 'queued'")),
    comment="Present state of a request that was put off: by time; at one time processed or dropped comes last.",
)
