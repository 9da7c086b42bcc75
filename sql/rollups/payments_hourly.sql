-- Payments per hour: one group per project, agent, asset, service, status and origin.
-- Repeats of a status (is_duplicate) are counted apart and add to no sum. retry_amount: what was paid on a retry.
SELECT
  {time_bucket}(INTERVAL '1 hour', ts) AS bucket,
  project_id, agent_id, asset_id, service, status, origin,
  count(*) FILTER (WHERE NOT is_duplicate) AS payments,
  count(*) FILTER (WHERE is_duplicate) AS duplicates,
  coalesce(sum(amount) FILTER (WHERE NOT is_duplicate), 0) AS amount,
  coalesce(sum(amount) FILTER (WHERE NOT is_duplicate AND retry_count > 0), 0) AS retry_amount,
  coalesce(sum(fee_lamports) FILTER (WHERE NOT is_duplicate), 0) AS fee_lamports,
  coalesce(sum(retry_count) FILTER (WHERE NOT is_duplicate), 0) AS retries
FROM tollwatch.payments
WHERE {range}
GROUP BY 1, 2, 3, 4, 5, 6, 7
