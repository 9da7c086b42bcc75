-- Balances per hour: one group per project, agent, wallet and asset. `first` and `last` are [slot, amount]: by slot, not
-- by clock, because a later sample may come from a node that lags behind. inflow and outflow add up the changes.
SELECT
  {time_bucket}(INTERVAL '1 hour', ts) AS bucket,
  project_id, agent_id, wallet_id, asset_id,
  count(*) AS samples,
  count(*) FILTER (WHERE status <> 'sufficient') AS low_samples,
  min(amount) AS amount_min,
  max(amount) AS amount_max,
  min(ARRAY[slot, amount]) AS first,
  max(ARRAY[slot, amount]) AS last,
  coalesce(sum(change) FILTER (WHERE change > 0), 0) AS inflow,
  coalesce(-sum(change) FILTER (WHERE change < 0), 0) AS outflow,
  min(ts) AS first_ts,
  max(ts) AS last_ts
FROM tollwatch.balance_samples
WHERE {range}
GROUP BY 1, 2, 3, 4, 5
