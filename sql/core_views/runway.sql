-- How long the money lasts: balance over what flowed out in the last 24 hours (or since the first sample). NULL: nothing
-- flows out. Amounts in atomic units.
CREATE VIEW tollwatch.runway AS
SELECT project_id, agent_id, wallet_id, asset_id, ts, amount, threshold, status, outflow, observed_hours,
  outflow / observed_hours AS burn_per_hour, amount * observed_hours / nullif(outflow, 0) AS runway_hours
FROM (
  SELECT project_id, h.agent_id, wallet_id, asset_id, h.ts, h.amount, h.threshold, h.status,
    coalesce(b.outflow, 0) AS outflow, greatest(b.observed_hours, 1.0 / 60) AS observed_hours
  FROM tollwatch.balance_heads h
  LEFT JOIN (
    SELECT project_id, wallet_id, asset_id, sum(outflow) AS outflow,
      extract(epoch FROM max(last_ts) - min(first_ts)) / 3600 AS observed_hours
    FROM tollwatch.balances_hourly
    WHERE bucket >= now() - INTERVAL '24 hours'
    GROUP BY 1, 2, 3
  ) b USING (project_id, wallet_id, asset_id)
  WHERE h.slot >= 0
) burning
