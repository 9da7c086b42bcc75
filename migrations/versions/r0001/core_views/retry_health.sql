-- What retries and breakers cost and save, per hour, agent and service. Two kinds of rows that add up under any grouping:
-- counts of attempts (asset NULL), and money per asset. avoided_amount: attempts skipped while a breaker was open, at the
-- average price that the agent paid that service in the 24 hours before.
CREATE VIEW tollwatch.retry_health AS
SELECT project_id, bucket, agent_id, service, CAST(NULL AS integer) AS asset_id,
  CAST(sum(requests) FILTER (WHERE outcome <> 'skipped_open') AS bigint) AS attempts,
  CAST(sum(retries) AS bigint) AS retries, CAST(sum(retry_successes) AS bigint) AS retry_successes,
  CAST(coalesce(sum(requests) FILTER (WHERE outcome = 'skipped_open'), 0) AS bigint) AS skipped,
  sum(backoff_ms_sum) AS backoff_ms, CAST(0 AS numeric) AS retry_amount, CAST(0 AS numeric) AS avoided_amount
FROM tollwatch.requests_hourly
GROUP BY 1, 2, 3, 4
UNION ALL
SELECT project_id, bucket, agent_id, service, asset_id, 0, 0, 0, 0, 0, retry_amount, 0
FROM tollwatch.spend_by_service
WHERE retry_amount > 0
UNION ALL
SELECT q.project_id, q.bucket, q.agent_id, q.service, paid.asset_id, 0, 0, 0, 0, 0, 0, round(q.requests * paid.price)
FROM tollwatch.requests_hourly q
CROSS JOIN LATERAL (
  SELECT s.asset_id, sum(s.amount) / nullif(sum(s.payments), 0) AS price
  FROM tollwatch.spend_by_service s
  WHERE s.project_id = q.project_id AND s.agent_id = q.agent_id AND s.service = q.service
    AND s.bucket BETWEEN q.bucket - INTERVAL '24 hours' AND q.bucket
  GROUP BY 1
  ORDER BY sum(s.payments) DESC
  LIMIT 1
) paid
WHERE q.outcome = 'skipped_open'
