-- Hourly reads: rollup rows summed over the grouping that was asked for, newest hour first.
--
-- A column that is not asked for is a constant (0 or '') in the inner SELECT. The plan is made for the very values, so the
-- CASE folds to the column or to the constant, and a constant in GROUP BY, in ORDER BY and in a row comparison costs
-- nothing. Amounts are always grouped by asset: those of different assets are never added.

-- name: read_payments_hourly
-- A page of payments per hour. :by_agent, :by_service, :by_status, :by_origin say what to group by, beside hour and asset.
SELECT h.*, g.name AS agent, s.symbol AS asset, s.network
FROM (
  SELECT k.bucket, k.agent_id, k.asset_id, k.service, k.status, k.origin,
    CAST(sum(k.payments) AS bigint) AS payments, CAST(sum(k.duplicates) AS bigint) AS duplicates, sum(k.amount) AS amount,
    sum(k.fee_lamports) AS fee_lamports, CAST(sum(k.retries) AS bigint) AS retries
  FROM (
    SELECT r.bucket, r.asset_id, r.payments, r.duplicates, r.amount, r.fee_lamports, r.retries,
      CASE WHEN CAST(:by_agent AS boolean) THEN r.agent_id ELSE 0 END AS agent_id,
      CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service,
      CASE WHEN CAST(:by_status AS boolean) THEN r.status ELSE '' END AS status,
      CASE WHEN CAST(:by_origin AS boolean) THEN r.origin ELSE '' END AS origin
    FROM tollwatch.payments_hourly r
    WHERE r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
      AND (CAST(:agent_id AS int) IS NULL OR r.agent_id = :agent_id)
      AND (CAST(:asset_ids AS int[]) IS NULL OR r.asset_id = ANY (:asset_ids))
      AND (CAST(:status AS text) IS NULL OR r.status = :status)
      AND (CAST(:origin AS text) IS NULL OR r.origin = :origin)
      AND (CAST(:service AS text) IS NULL OR r.service = :service)
  ) k
  WHERE (k.bucket, k.agent_id, k.asset_id, k.service, k.status, k.origin)
    < (CAST(:before_bucket AS timestamptz), CAST(:before_agent_id AS int), CAST(:before_asset_id AS int),
       CAST(:before_service AS text), CAST(:before_status AS text), CAST(:before_origin AS text))
  GROUP BY k.bucket, k.agent_id, k.asset_id, k.service, k.status, k.origin
  ORDER BY k.bucket DESC, k.agent_id DESC, k.asset_id DESC, k.service DESC, k.status DESC, k.origin DESC
  LIMIT :limit
) h
JOIN tollwatch.assets s ON s.id = h.asset_id
LEFT JOIN tollwatch.agents g ON g.id = h.agent_id
ORDER BY h.bucket DESC, h.agent_id DESC, h.asset_id DESC, h.service DESC, h.status DESC, h.origin DESC

-- name: read_requests_hourly
-- A page of attempts per hour. :by_agent, :by_service, :by_outcome say what to group by, beside the hour.
SELECT h.*, g.name AS agent
FROM (
  SELECT k.bucket, k.agent_id, k.service, k.outcome,
    CAST(sum(k.requests) AS bigint) AS requests, CAST(sum(k.retries) AS bigint) AS retries,
    CAST(sum(k.paid) AS bigint) AS paid, sum(k.latency_ms_sum) AS latency_ms_sum, min(k.latency_ms_min) AS latency_ms_min,
    max(k.latency_ms_max) AS latency_ms_max, sum(k.backoff_ms_sum) AS backoff_ms_sum,
    sum(k.response_bytes_sum) AS response_bytes_sum
  FROM (
    SELECT r.bucket, r.requests, r.retries, r.paid, r.latency_ms_sum, r.latency_ms_min, r.latency_ms_max, r.backoff_ms_sum,
      r.response_bytes_sum,
      CASE WHEN CAST(:by_agent AS boolean) THEN r.agent_id ELSE 0 END AS agent_id,
      CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service,
      CASE WHEN CAST(:by_outcome AS boolean) THEN r.outcome ELSE '' END AS outcome
    FROM tollwatch.requests_hourly r
    WHERE r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
      AND (CAST(:agent_id AS int) IS NULL OR r.agent_id = :agent_id)
      AND (CAST(:outcome AS text) IS NULL OR r.outcome = :outcome)
      AND (CAST(:service AS text) IS NULL OR r.service = :service)
  ) k
  WHERE (k.bucket, k.agent_id, k.service, k.outcome)
    < (CAST(:before_bucket AS timestamptz), CAST(:before_agent_id AS int), CAST(:before_service AS text),
       CAST(:before_outcome AS text))
  GROUP BY k.bucket, k.agent_id, k.service, k.outcome
  ORDER BY k.bucket DESC, k.agent_id DESC, k.service DESC, k.outcome DESC
  LIMIT :limit
) h
LEFT JOIN tollwatch.agents g ON g.id = h.agent_id
ORDER BY h.bucket DESC, h.agent_id DESC, h.service DESC, h.outcome DESC

-- name: read_balances_hourly
-- A page of balances per hour, wallet and asset: extremes, and the first and last by slot. Atomic units.
SELECT r.bucket, r.wallet_id, r.asset_id, r.agent_id, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset,
  r.samples, r.low_samples, r.amount_min, r.amount_max, r.first[2] AS amount_first, r.last[2] AS amount_last,
  r.last[1] AS slot_last
FROM (
  SELECT r.*
  FROM tollwatch.balances_hourly r
  WHERE r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
    AND (r.bucket, r.wallet_id, r.asset_id, r.agent_id)
      < (CAST(:before_bucket AS timestamptz), CAST(:before_wallet_id AS int), CAST(:before_asset_id AS int),
         CAST(:before_agent_id AS int))
    AND (CAST(:agent_id AS int) IS NULL OR r.agent_id = :agent_id)
    AND (CAST(:wallet_ids AS int[]) IS NULL OR r.wallet_id = ANY (:wallet_ids))
    AND (CAST(:asset_ids AS int[]) IS NULL OR r.asset_id = ANY (:asset_ids))
  ORDER BY r.bucket DESC, r.wallet_id DESC, r.asset_id DESC, r.agent_id DESC
  LIMIT :limit
) r
JOIN tollwatch.agents g ON g.id = r.agent_id
JOIN tollwatch.wallets w ON w.id = r.wallet_id
JOIN tollwatch.assets s ON s.id = r.asset_id
ORDER BY r.bucket DESC, r.wallet_id DESC, r.asset_id DESC, r.agent_id DESC
