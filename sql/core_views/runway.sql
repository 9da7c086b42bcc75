-- How long the money lasts: balance over what flowed out in the last 24 hours (or since the first sample). NULL: nothing
-- flows out. Amounts in atomic units.
CREATE VIEW tollwatch.runway AS
SELECT h.project_id, h.agent_id, h.wallet_id, h.asset_id, h.ts, h.amount, h.threshold, h.status, b.outflow,
  b.observed_hours, b.outflow / b.observed_hours AS burn_per_hour,
  h.amount * b.observed_hours / nullif(b.outflow, 0) AS runway_hours
FROM tollwatch.balance_heads h
CROSS JOIN LATERAL (
  SELECT coalesce(sum(r.outflow), 0) AS outflow,
    greatest(extract(epoch FROM max(r.last_ts) - min(r.first_ts)) / 3600, 1.0 / 60) AS observed_hours
  FROM tollwatch.balances_hourly r
  WHERE r.project_id = h.project_id AND r.wallet_id = h.wallet_id AND r.asset_id = h.asset_id
    AND r.bucket >= now() - INTERVAL '24 hours'
) b
