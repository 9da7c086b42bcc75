-- Payments whose fate is not known: pending, verified, retrying, unknown.
CREATE VIEW tollwatch_read.open_payments WITH (security_barrier) AS
SELECT v.payment_id, v.request_id, g.name AS agent, s.symbol AS asset, s.network, v.amount,
  v.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, v.status, v.origin, v.ts, v.opened_ts
FROM tollwatch.open_payments v
JOIN tollwatch.agents g ON g.id = v.agent_id
JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
