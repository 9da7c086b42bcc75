-- Payments per hour by agent, asset, service, status and origin. Amounts in atomic units; tokens in whole ones.
CREATE VIEW tollwatch_read.payments_hourly WITH (security_barrier) AS
SELECT r.bucket, g.name AS agent, s.symbol AS asset, s.network, r.service, r.status, r.origin, r.payments, r.duplicates,
  r.amount, r.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, r.fee_lamports, r.retries
FROM tollwatch.payments_hourly r
JOIN tollwatch.agents g ON g.id = r.agent_id
JOIN tollwatch.assets s ON s.id = r.asset_id
WHERE r.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
