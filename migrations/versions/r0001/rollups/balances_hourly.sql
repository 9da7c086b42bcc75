-- Balances per hour: one group per project, agent, wallet and asset. `first` and `last` are [slot, amount]: by slot, not
-- by clock, because a later sample may come from a node that lags behind.
SELECT
  {time_bucket}(INTERVAL '1 hour', ts) AS bucket,
  project_id, agent_id, wallet_id, asset_id,
  count(*) AS samples,
  count(*) FILTER (WHERE status <> 'sufficient') AS low_samples,
  min(amount) AS amount_min,
  max(amount) AS amount_max,
  min(ARRAY[slot, amount]) AS first,
  max(ARRAY[slot, amount]) AS last
FROM tollwatch.balance_samples
{where}
GROUP BY 1, 2, 3, 4, 5
