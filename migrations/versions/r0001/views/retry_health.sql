-- What retries and breakers cost and save, per hour, agent and service. Rows of counts (asset NULL) and rows of money add up.
CREATE VIEW tollwatch_read.retry_health WITH (security_barrier) AS
SELECT v.bucket, g.name AS agent, v.service, s.symbol AS asset, v.attempts, v.retries, v.retry_successes, v.skipped,
  v.backoff_ms, v.retry_amount / 10::numeric ^ coalesce(s.decimals, 0) AS retry_tokens,
  v.avoided_amount / 10::numeric ^ coalesce(s.decimals, 0) AS avoided_tokens
FROM tollwatch.retry_health v
JOIN tollwatch.agents g ON g.id = v.agent_id
LEFT JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
