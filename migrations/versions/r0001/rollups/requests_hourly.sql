-- Attempts per hour: one group per project, agent, service and outcome. A retry is an attempt after the first.
SELECT
  {time_bucket}(INTERVAL '1 hour', ts) AS bucket,
  project_id, agent_id, service, outcome,
  count(*) AS requests,
  count(*) FILTER (WHERE attempt > 1) AS retries,
  count(*) FILTER (WHERE attempt > 1 AND outcome = 'ok') AS retry_successes,
  count(*) FILTER (WHERE paid) AS paid,
  coalesce(sum(latency_ms), 0) AS latency_ms_sum,
  min(latency_ms) AS latency_ms_min,
  max(latency_ms) AS latency_ms_max,
  coalesce(sum(backoff_ms), 0) AS backoff_ms_sum,
  coalesce(sum(response_bytes), 0) AS response_bytes_sum
FROM tollwatch.api_requests
WHERE {range}
GROUP BY 1, 2, 3, 4, 5
