-- Latency histogram per hour by service, whoever asked. From the hours of all agents.
SELECT
  {time_bucket}(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.request_latency_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4
