-- Hours that the money lasts, per wallet and asset; NULL: nothing flows out.
CREATE VIEW tollwatch_read.runway WITH (security_barrier) AS
SELECT g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, v.ts, v.amount,
  v.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens,
  v.threshold / 10::numeric ^ coalesce(s.decimals, 0) AS threshold_tokens, v.status,
  v.burn_per_hour / 10::numeric ^ coalesce(s.decimals, 0) AS burn_tokens_per_hour, v.observed_hours, v.runway_hours
FROM tollwatch.runway v
JOIN tollwatch.agents g ON g.id = v.agent_id
JOIN tollwatch.wallets w ON w.id = v.wallet_id
JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
