-- Latency histogram per day (UTC): feed latency_bucket and requests to latency_quantile().
CREATE VIEW tollwatch_read.request_latency_daily WITH (security_barrier) AS
SELECT v.bucket, g.name AS agent, v.service, v.latency_bucket, v.requests
FROM tollwatch.request_latency_daily v
JOIN tollwatch.agents g ON g.id = v.agent_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
