-- What retries and breakers cost and save, per hour, agent and service. Two kinds of rows that add up under any grouping:
-- counts of attempts (asset NULL), and money per asset. avoided_amount: attempts skipped while a breaker was open, at the
-- average price of the 24 hours before, in the asset that most of them were paid in.
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
SELECT project_id, bucket, agent_id, service, asset_id, 0, 0, 0, 0, 0, 0, avoided
FROM (
  SELECT DISTINCT ON (project_id, agent_id, service, bucket)
    project_id, agent_id, service, bucket, asset_id, round(skipped * amount / payments) AS avoided
  FROM (
    -- One pass: prices and skipped attempts in one line of time per agent, service and asset.
    SELECT project_id, agent_id, service, asset_id, bucket, skipped,
      sum(payments) OVER day AS payments, sum(amount) OVER day AS amount
    FROM (
      SELECT project_id, agent_id, service, asset_id, bucket, payments, amount, CAST(NULL AS bigint) AS skipped
      FROM tollwatch.spend_by_service
      UNION ALL
      SELECT q.project_id, q.agent_id, q.service, known.asset_id, q.bucket, 0, 0, q.requests
      FROM tollwatch.requests_hourly q
      JOIN (SELECT DISTINCT project_id, agent_id, service, asset_id FROM tollwatch.spend_by_service) known
        USING (project_id, agent_id, service)
      WHERE q.outcome = 'skipped_open'
    ) line
    WINDOW day AS (
      PARTITION BY project_id, agent_id, service, asset_id ORDER BY bucket
      RANGE BETWEEN INTERVAL '24 hours' PRECEDING AND CURRENT ROW
    )
  ) priced
  WHERE skipped > 0 AND payments > 0
  ORDER BY project_id, agent_id, service, bucket, payments DESC, asset_id
) saved
