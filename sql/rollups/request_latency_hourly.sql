-- Latency histogram per hour and service, log-spaced: 20 buckets a decade. Bucket n holds 10^(n/20) ≤ ms < 10^((n+1)/20);
-- bucket -1 holds less than a millisecond. Counts merge over hours, agents and services; see sql/queries on quantiles.
SELECT
  {time_bucket}(INTERVAL '1 hour', ts) AS bucket,
  project_id, agent_id, service,
  CASE WHEN latency_ms < 1 THEN -1 ELSE floor(20 * log(greatest(latency_ms, 1)::float8))::int END AS latency_bucket,
  count(*) AS requests
FROM tollwatch.api_requests
WHERE latency_ms IS NOT NULL AND {range}
GROUP BY 1, 2, 3, 4, 5
