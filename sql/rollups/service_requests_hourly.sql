-- Attempts per hour by service, whoever made them. From the hours of all agents.
SELECT
  {time_bucket}(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.requests_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4
