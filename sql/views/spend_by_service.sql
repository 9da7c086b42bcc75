-- What was bought from whom, per hour: settled payments and their average price.
CREATE VIEW tollwatch_read.spend_by_service WITH (security_barrier) AS
SELECT v.bucket, g.name AS agent, v.service, s.symbol AS asset, s.network, v.payments, v.amount,
  v.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens,
  v.retry_amount / 10::numeric ^ coalesce(s.decimals, 0) AS retry_tokens,
  v.price / 10::numeric ^ coalesce(s.decimals, 0) AS price_tokens
FROM tollwatch.spend_by_service v
JOIN tollwatch.agents g ON g.id = v.agent_id
JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
