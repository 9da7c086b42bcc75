-- Balances per day (UTC), from the hours.
SELECT
  {time_bucket}(INTERVAL '1 day', bucket) AS bucket,
  project_id, agent_id, wallet_id, asset_id,
  sum(samples)::bigint AS samples,
  sum(low_samples)::bigint AS low_samples,
  min(amount_min) AS amount_min,
  max(amount_max) AS amount_max,
  min(first) AS first,
  max(last) AS last,
  sum(inflow) AS inflow,
  sum(outflow) AS outflow,
  min(first_ts) AS first_ts,
  max(last_ts) AS last_ts
FROM tollwatch.balances_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4, 5
