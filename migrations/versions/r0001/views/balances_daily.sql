-- Balances per day (UTC) by wallet and asset: extremes, first and last by slot, in- and outflow. Atomic units; last in tokens too.
CREATE VIEW tollwatch_read.balances_daily WITH (security_barrier) AS
SELECT v.bucket, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, v.samples, v.low_samples, v.amount_min,
  v.amount_max, v.first[2] AS amount_first, v.last[2] AS amount_last,
  v.last[2] / 10::numeric ^ coalesce(s.decimals, 0) AS tokens_last, v.last[1] AS slot_last, v.inflow, v.outflow,
  v.first_ts, v.last_ts
FROM tollwatch.balances_daily v
JOIN tollwatch.agents g ON g.id = v.agent_id
JOIN tollwatch.wallets w ON w.id = v.wallet_id
JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
