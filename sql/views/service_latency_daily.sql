-- Latency histogram per day (UTC) by service, whoever asked: feed latency_bucket and requests to latency_quantile().
CREATE VIEW tollwatch_read.service_latency_daily WITH (security_barrier) AS
SELECT v.bucket, v.service, v.latency_bucket, v.requests
FROM tollwatch.service_latency_daily v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
