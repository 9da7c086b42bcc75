-- Attempts per day (UTC) by agent, service and outcome.
CREATE VIEW tollwatch_read.requests_daily WITH (security_barrier) AS
SELECT v.bucket, g.name AS agent, v.service, v.outcome, v.requests, v.retries, v.retry_successes, v.paid, v.latency_ms_sum,
  v.latency_ms_min, v.latency_ms_max, v.backoff_ms_sum, v.response_bytes_sum
FROM tollwatch.requests_daily v
JOIN tollwatch.agents g ON g.id = v.agent_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
