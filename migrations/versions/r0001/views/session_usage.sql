-- Wallet sessions: limit, what the agent says it used, and what was seen to settle.
CREATE VIEW tollwatch_read.session_usage WITH (security_barrier) AS
SELECT v.session_id, g.name AS agent, w.network, w.address_text AS wallet, v.status, v.tx_limit, v.tx_used, v.tx_settled,
  v.delegated_at, v.expires_at, v.revoked_at
FROM tollwatch.session_usage v
JOIN tollwatch.agents g ON g.id = v.agent_id
JOIN tollwatch.wallets w ON w.id = v.wallet_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
