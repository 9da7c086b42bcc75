-- Attempts per hour by agent, service and outcome.
CREATE VIEW tollwatch_read.requests_hourly WITH (security_barrier) AS
SELECT r.bucket, g.name AS agent, r.service, r.outcome, r.requests, r.retries, r.paid, r.latency_ms_sum, r.latency_ms_min,
  r.latency_ms_max, r.backoff_ms_sum, r.response_bytes_sum
FROM tollwatch.requests_hourly r
JOIN tollwatch.agents g ON g.id = r.agent_id
WHERE r.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
