-- Wallet sessions, idempotent.

-- name: registered_wallet
-- The id of a wallet that somebody registered; one that only events named does not count.
SELECT id FROM tollwatch.wallets
WHERE project_id = :project_id AND network = :network AND address = :address AND registered AND archived_at IS NULL

-- name: put_session
-- Make a session, or make it what is asked for; one of another agent stays as it is. Returns created; no row: it is so
-- already, or another agent's, or there is no room for one more.
INSERT INTO tollwatch.wallet_sessions AS s (project_id, id, agent_id, wallet_id, token_hash, scope, tx_used, status,
  delegated_at, expires_at, revoked_at)
SELECT :project_id, CAST(:id AS uuid), :agent_id, :wallet_id, CAST(:token_hash AS bytea), CAST(:scope AS jsonb), :tx_used,
  :status, CAST(:delegated_at AS timestamptz), CAST(:expires_at AS timestamptz), CAST(:revoked_at AS timestamptz)
WHERE EXISTS (SELECT FROM tollwatch.wallet_sessions WHERE project_id = :project_id AND id = :id)
  OR (SELECT count(*) FROM tollwatch.wallet_sessions WHERE project_id = :project_id) < :max_sessions
ON CONFLICT (project_id, id) DO UPDATE SET
  wallet_id = excluded.wallet_id, token_hash = excluded.token_hash, scope = excluded.scope, tx_used = excluded.tx_used,
  status = excluded.status, delegated_at = excluded.delegated_at, expires_at = excluded.expires_at,
  revoked_at = excluded.revoked_at, archived_at = NULL, updated_at = now()
WHERE s.agent_id = excluded.agent_id AND (s.archived_at IS NOT NULL
  OR (s.wallet_id, s.token_hash, s.scope, s.tx_used, s.status, s.delegated_at, s.expires_at, s.revoked_at)
    IS DISTINCT FROM
     (excluded.wallet_id, excluded.token_hash, excluded.scope, excluded.tx_used, excluded.status, excluded.delegated_at,
      excluded.expires_at, excluded.revoked_at))
RETURNING xmax = 0 AS created

-- name: session_owner
-- The agent that a session belongs to: id, name.
SELECT g.id, g.name
FROM tollwatch.wallet_sessions s
JOIN tollwatch.agents g ON g.id = s.agent_id
WHERE s.project_id = :project_id AND s.id = :id
