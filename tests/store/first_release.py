"""Plays the first release's clients: its SQL on the schema of revision 0001, frozen here as it was then."""

from __future__ import annotations

PLAIN_ROWS = """
INSERT INTO tollwatch.projects (name) VALUES ('first');
INSERT INTO tollwatch.agents (project_id, name, network) SELECT id, 'a', 'solana:x' FROM tollwatch.projects;
INSERT INTO tollwatch.wallets (project_id, agent_id, network, address, address_text, registered)
SELECT project_id, id, network, decode(repeat('ab', 32), 'hex'), 'w', true FROM tollwatch.agents;
INSERT INTO tollwatch.wallet_sessions (project_id, id, agent_id, wallet_id, token_hash, status)
SELECT project_id, gen_random_uuid(), agent_id, id, 'hash', 'active' FROM tollwatch.wallets;
INSERT INTO tollwatch.project_roles (role, project_id, purpose) SELECT 'a_reader', id, 'reader' FROM tollwatch.projects;
INSERT INTO tollwatch.api_keys (project_id, name, prefix, hash, scopes, created_by)
SELECT id, 'k', 'tw_x', 'hash', '{read}', 'test' FROM tollwatch.projects;
"""
"""Every script and statement finds its ids by itself: the database holds one project, agent and wallet."""
_WHO = "(SELECT p.id AS project_id, a.id AS agent_id, w.id AS wallet_id, s.id AS asset_id FROM tollwatch.projects p, \
tollwatch.agents a, tollwatch.wallets w, tollwatch.assets s WHERE s.symbol = 'USDC' ORDER BY s.id LIMIT 1) who"
_WHEN = "(SELECT gen_random_uuid() AS id, now() - %(age)s::interval - n * interval '7 ms' AS ts FROM generate_series(1, %(rows)s) n) t"
_HEADS = "INSERT INTO tollwatch.payment_heads (project_id, payment_id, agent_id, asset_id, amount, told, rank, status, \
origin, ts, opened_ts) SELECT project_id, id, agent_id, asset_id, amount, 32, 112, status, origin, ts, ts FROM stored"
WRITES = (
    f"""WITH stored AS (INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, agent_id, wallet_id, status, amount,
      asset_id, service, retry_count, backoff_ms, is_duplicate, origin)
    SELECT project_id, ts, id, id, agent_id, wallet_id, 'settled', 1000, asset_id, 'http://market', 0, 0, false, 'agent'
    FROM {_WHO}, {_WHEN} RETURNING *) {_HEADS}""",
    f"""INSERT INTO tollwatch.api_requests (project_id, ts, id, request_id, attempt, max_retries, agent_id, service, paid,
      backoff_ms, outcome, origin, latency_ms)
    SELECT project_id, ts, id, id, 1, 3, agent_id, 'http://market', true, 0, 'ok', 'agent', 12 FROM {_WHO}, {_WHEN}""",
    f"""INSERT INTO tollwatch.audit_events (project_id, ts, id, event_type, severity, agent_id, component, origin)
    SELECT project_id, ts, id, 'breaker_opened', 'warning', agent_id, 'rpc', 'agent' FROM {_WHO}, {_WHEN}""",
    f"""INSERT INTO tollwatch.queue_events (project_id, ts, id, agent_id, request_id, state, reason, origin)
    SELECT project_id, ts, id, agent_id, id, 'queued', 'funds', 'agent' FROM {_WHO}, {_WHEN}""",
    f"""INSERT INTO tollwatch.balance_samples (project_id, wallet_id, asset_id, ts, agent_id, amount, slot, commitment,
      status, origin)
    SELECT project_id, wallet_id, asset_id, ts, agent_id, 5, 7, 'confirmed', 'sufficient', 'collector' FROM {_WHO}, {_WHEN}
    ON CONFLICT DO NOTHING""",
)
"""Facts of every relation: `rows` of them, `age` ago."""
READS = (
    "SELECT status, sum(payments), sum(amount) FROM tollwatch.payments_hourly GROUP BY 1",
    "SELECT service, sum(requests) FROM tollwatch.requests_daily GROUP BY 1",
    "SELECT count(*) FROM tollwatch.payment_heads WHERE rank < 100",
    "SELECT * FROM tollwatch.audit_trail LIMIT 5",
    "SELECT * FROM tollwatch_read.payments LIMIT 5",
)
DATA = {
    "payments": "project_id, ts, id, payment_id, agent_id, status, amount, asset_id, service, origin",
    "api_requests": "project_id, ts, id, request_id, attempt, agent_id, service, outcome",
    "audit_events": "project_id, ts, id, event_type, severity, agent_id, component",
    "queue_events": "project_id, ts, id, agent_id, request_id, state, reason",
    "balance_samples": "project_id, wallet_id, asset_id, ts, agent_id, amount, slot, status",
    "payment_heads": "project_id, payment_id, agent_id, asset_id, amount, told, rank, status",
    "projects": "id, name",
    "agents": "id, project_id, name, max_retries, low_balance_threshold",
    "wallets": "id, project_id, agent_id, address",
    "wallet_sessions": "project_id, id, agent_id, token_hash, status",
    "api_keys": "id, project_id, hash, scopes",
    "project_roles": "role, project_id, purpose",
    "assets": "id, network, mint, symbol, decimals",
    "schema_info": "edition",
    "payments_hourly": "bucket, agent_id, status, payments, amount",
    "requests_daily": "bucket, agent_id, service, requests",
}
"""Relation of 0001 → columns that every later revision and every way back must keep as they are."""


POLICIES = """
DO $$ BEGIN
  IF (SELECT edition FROM tollwatch.schema_info) = 'community' THEN
    PERFORM public.alter_job(job_id, config => config - 'refresh_newest_first')
    FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate';
  END IF;
END $$;
UPDATE tollwatch.schema_info SET horizons = horizons - 'rollups';
"""
"""Policies as that release made and recorded them, and not as this code does."""


def fill(connection, *, rows: int = 40, ages=("1 minute", "3 days", "9 days")) -> None:
    """One project with facts of every relation, at several ages."""
    connection.execute(POLICIES)
    connection.execute(PLAIN_ROWS)
    for age in ages:
        for statement in WRITES:
            connection.execute(statement, {"rows": rows, "age": age})


def fingerprint(connection) -> dict[str, tuple[int, str]]:
    """Relation → how many rows, and a digest of all their values."""
    return {
        relation: connection.execute(
            f"SELECT count(*), md5(string_agg(r::text, ',' ORDER BY r::text)) FROM (SELECT {columns} FROM tollwatch.{relation}) r"
        ).fetchone()
        for relation, columns in DATA.items()
    }
