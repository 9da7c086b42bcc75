-- Balances per hour by wallet and asset: extremes, and the first and last by slot. Atomic units.
CREATE VIEW tollwatch_read.balances_hourly WITH (security_barrier) AS
SELECT r.bucket, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, r.samples, r.low_samples,
  r.amount_min, r.amount_max, r.first[2] AS amount_first, r.last[2] AS amount_last, r.last[1] AS slot_last
FROM tollwatch.balances_hourly r
JOIN tollwatch.agents g ON g.id = r.agent_id
JOIN tollwatch.wallets w ON w.id = r.wallet_id
JOIN tollwatch.assets s ON s.id = r.asset_id
WHERE r.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
