-- What wallet sessions allow, what their agents say they used (tx_used), and what was seen to settle under them.
CREATE VIEW tollwatch.session_usage AS
SELECT s.project_id, s.id AS session_id, s.agent_id, s.wallet_id,
  CASE WHEN s.status = 'active' AND s.expires_at <= now() THEN 'expired' ELSE s.status END AS status,
  CAST(s.scope ->> 'tx_limit' AS integer) AS tx_limit, s.tx_used, seen.payments AS tx_settled, s.delegated_at, s.expires_at,
  s.revoked_at
FROM tollwatch.wallet_sessions s
CROSS JOIN LATERAL (
  SELECT count(*) AS payments
  FROM tollwatch.payments p
  WHERE p.project_id = s.project_id AND p.session_id = s.id AND p.status = 'settled' AND NOT p.is_duplicate
    AND p.ts >= coalesce(s.delegated_at, s.created_at) - INTERVAL '1 hour'
) seen
