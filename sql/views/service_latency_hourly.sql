-- Latency histogram per hour by service, whoever asked: feed latency_bucket and requests to latency_quantile().
CREATE VIEW tollwatch_read.service_latency_hourly WITH (security_barrier) AS
SELECT v.bucket, v.service, v.latency_bucket, v.requests
FROM tollwatch.service_latency_hourly v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
