-- Latency histogram per day (UTC) by service, from the hours.
SELECT
  {time_bucket}(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.service_latency_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4
