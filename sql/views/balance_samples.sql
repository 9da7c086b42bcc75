-- Every balance reading. Always bound ts.
CREATE VIEW tollwatch_read.balance_samples WITH (security_barrier) AS
SELECT b.ts, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, b.amount,
  b.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, b.slot, b.commitment, b.threshold, b.status, b.reason, b.change,
  b.origin, b.recorded_at
FROM tollwatch.balance_samples b
JOIN tollwatch.agents g ON g.id = b.agent_id
JOIN tollwatch.wallets w ON w.id = b.wallet_id
JOIN tollwatch.assets s ON s.id = b.asset_id
WHERE b.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
