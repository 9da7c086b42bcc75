-- Attempts per hour by service and outcome, whoever made them.
CREATE VIEW tollwatch_read.service_requests_hourly WITH (security_barrier) AS
SELECT v.bucket, v.service, v.outcome, v.requests, v.retries, v.retry_successes, v.paid, v.latency_ms_sum,
  v.latency_ms_min, v.latency_ms_max, v.backoff_ms_sum, v.response_bytes_sum
FROM tollwatch.service_requests_hourly v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
