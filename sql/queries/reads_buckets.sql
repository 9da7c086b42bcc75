-- Reads of hours and days: rollup rows summed over the grouping that was asked for, newest first. {size} is hourly or daily
-- (store/readers/listings_buckets.py). {payments}, {requests} and {latency} are rollups by agent where agents are asked for,
-- else those by service, where {agent_id} is 0.
--
-- A column that is not asked for is a constant (0 or '') in the inner SELECT. The plan is made for the very values, so the
-- CASE folds to the column or to the constant, and a constant in GROUP BY, in ORDER BY and in a row comparison costs
-- nothing. Amounts are always grouped by asset: those of different assets are never added.

-- name: read_payments_buckets
-- A page of payments per bucket. :by_agent, :by_service, :by_status, :by_origin say what to group by, beside bucket and asset.
SELECT h.*, g.name AS agent, s.symbol AS asset, s.network
FROM (
  SELECT k.bucket, k.agent_id, k.asset_id, k.service, k.status, k.origin,
    CAST(sum(k.payments) AS bigint) AS payments, CAST(sum(k.duplicates) AS bigint) AS duplicates, sum(k.amount) AS amount,
    sum(k.retry_amount) AS retry_amount, sum(k.fee_lamports) AS fee_lamports, CAST(sum(k.retries) AS bigint) AS retries
  FROM (
    SELECT r.bucket, r.asset_id, r.payments, r.duplicates, r.amount, r.retry_amount, r.fee_lamports,
      r.retries,
      CASE WHEN CAST(:by_agent AS boolean) THEN {agent_id} ELSE 0 END AS agent_id,
      CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service,
      CASE WHEN CAST(:by_status AS boolean) THEN r.status ELSE '' END AS status,
      CASE WHEN CAST(:by_origin AS boolean) THEN r.origin ELSE '' END AS origin
    FROM tollwatch.{payments}_{size} r
    WHERE r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
      AND (CAST(:agent_id AS int) IS NULL OR {agent_id} = :agent_id)
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

-- name: read_requests_buckets
-- A page of attempts per bucket. :by_agent, :by_service, :by_outcome say what to group by, beside the bucket. :quantiles
-- adds those of the latency; they are kept by agent and service, so not together with :by_outcome or :outcome.
WITH page AS MATERIALIZED (
  SELECT k.bucket, k.agent_id, k.service, k.outcome,
    CAST(sum(k.requests) AS bigint) AS requests, CAST(sum(k.retries) AS bigint) AS retries,
    CAST(sum(k.retry_successes) AS bigint) AS retry_successes, CAST(sum(k.paid) AS bigint) AS paid,
    sum(k.latency_ms_sum) AS latency_ms_sum, min(k.latency_ms_min) AS latency_ms_min,
    max(k.latency_ms_max) AS latency_ms_max, sum(k.backoff_ms_sum) AS backoff_ms_sum,
    sum(k.response_bytes_sum) AS response_bytes_sum
  FROM (
    SELECT r.bucket, r.requests, r.retries, r.retry_successes, r.paid, r.latency_ms_sum, r.latency_ms_min,
      r.latency_ms_max, r.backoff_ms_sum, r.response_bytes_sum,
      CASE WHEN CAST(:by_agent AS boolean) THEN {agent_id} ELSE 0 END AS agent_id,
      CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service,
      CASE WHEN CAST(:by_outcome AS boolean) THEN r.outcome ELSE '' END AS outcome
    FROM tollwatch.{requests}_{size} r
    WHERE r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
      AND (CAST(:agent_id AS int) IS NULL OR {agent_id} = :agent_id)
      AND (CAST(:outcome AS text) IS NULL OR r.outcome = :outcome)
      AND (CAST(:service AS text) IS NULL OR r.service = :service)
  ) k
  WHERE (k.bucket, k.agent_id, k.service, k.outcome)
    < (CAST(:before_bucket AS timestamptz), CAST(:before_agent_id AS int), CAST(:before_service AS text),
       CAST(:before_outcome AS text))
  GROUP BY k.bucket, k.agent_id, k.service, k.outcome
  ORDER BY k.bucket DESC, k.agent_id DESC, k.service DESC, k.outcome DESC
  LIMIT :limit
), latency AS (
  -- Cells are added up before they become arrays: three functions unpack each array.
  SELECT c.bucket, c.agent_id, c.service, array_agg(c.latency_bucket) AS cells, array_agg(c.requests) AS counts
  FROM (
    SELECT k.bucket, k.agent_id, k.service, k.latency_bucket, CAST(sum(k.requests) AS bigint) AS requests
    FROM (
      SELECT r.bucket, r.latency_bucket, r.requests,
        CASE WHEN CAST(:by_agent AS boolean) THEN {agent_id} ELSE 0 END AS agent_id,
        CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service
      FROM tollwatch.{latency}_{size} r
      WHERE CAST(:quantiles AS boolean)
        AND r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
        AND r.bucket >= (SELECT min(bucket) FROM page)
        AND (CAST(:agent_id AS int) IS NULL OR {agent_id} = :agent_id)
        AND (CAST(:service AS text) IS NULL OR r.service = :service)
    ) k
    GROUP BY k.bucket, k.agent_id, k.service, k.latency_bucket
  ) c
  GROUP BY c.bucket, c.agent_id, c.service
)
SELECT h.*, g.name AS agent, q.latency_ms_p50, q.latency_ms_p95, q.latency_ms_p99
FROM page h
LEFT JOIN latency l USING (bucket, agent_id, service)
CROSS JOIN LATERAL (
  SELECT tollwatch_read.latency_quantile(0.50, l.cells, l.counts) AS latency_ms_p50,
    tollwatch_read.latency_quantile(0.95, l.cells, l.counts) AS latency_ms_p95,
    tollwatch_read.latency_quantile(0.99, l.cells, l.counts) AS latency_ms_p99
) q
LEFT JOIN tollwatch.agents g ON g.id = h.agent_id
ORDER BY h.bucket DESC, h.agent_id DESC, h.service DESC, h.outcome DESC

-- name: read_balances_buckets
-- A page of balances per bucket, wallet and asset: extremes, first and last by slot, flows. Atomic units.
SELECT r.bucket, r.wallet_id, r.asset_id, r.agent_id, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset,
  r.samples, r.low_samples, r.amount_min, r.amount_max, r.first[2] AS amount_first, r.last[2] AS amount_last,
  r.last[1] AS slot_last, r.inflow, r.outflow
FROM (
  SELECT r.*
  FROM tollwatch.balances_{size} r
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

-- name: read_spend
-- A page of what was bought: settled payments, whoever told of them first. :by_agent and :by_service say what to group by,
-- beside bucket and asset. price: the average, to the nearest atomic unit.
SELECT h.*, round(h.amount / h.payments) AS price, g.name AS agent, s.symbol AS asset, s.network
FROM (
  SELECT k.bucket, k.agent_id, k.asset_id, k.service, CAST(sum(k.payments) AS bigint) AS payments,
    sum(k.amount) AS amount, sum(k.retry_amount) AS retry_amount
  FROM (
    SELECT r.bucket, r.asset_id, r.payments, r.amount, r.retry_amount,
      CASE WHEN CAST(:by_agent AS boolean) THEN {agent_id} ELSE 0 END AS agent_id,
      CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service
    FROM tollwatch.{payments}_{size} r
    WHERE r.project_id = :project_id AND r.bucket >= :from_ts AND r.bucket < :to_ts AND r.bucket <= :before_bucket
      AND r.status = 'settled' AND r.payments > 0
      AND (CAST(:agent_id AS int) IS NULL OR {agent_id} = :agent_id)
      AND (CAST(:asset_ids AS int[]) IS NULL OR r.asset_id = ANY (:asset_ids))
      AND (CAST(:service AS text) IS NULL OR r.service = :service)
  ) k
  WHERE (k.bucket, k.agent_id, k.asset_id, k.service)
    < (CAST(:before_bucket AS timestamptz), CAST(:before_agent_id AS int), CAST(:before_asset_id AS int),
       CAST(:before_service AS text))
  GROUP BY k.bucket, k.agent_id, k.asset_id, k.service
  ORDER BY k.bucket DESC, k.agent_id DESC, k.asset_id DESC, k.service DESC
  LIMIT :limit
) h
JOIN tollwatch.assets s ON s.id = h.asset_id
LEFT JOIN tollwatch.agents g ON g.id = h.agent_id
ORDER BY h.bucket DESC, h.agent_id DESC, h.asset_id DESC, h.service DESC

-- name: read_retry_health
-- A page of what retries and breakers cost and save. {is_total} true: over the whole range, whose start stands for the
-- bucket; its whole days, from :first_day to :last_day, are read as days. The figures are those of tollwatch.retry_health:
-- attempts and retries, money paid on retries, and attempts skipped while a breaker was open at the average price of the 24
-- hours before. Skipped attempts are few and have an index, so each looks up its price; from :live_from on prices are made
-- once, because hours that are aggregated when they are read would be so for each.
WITH attempts AS MATERIALIZED (
  SELECT CASE WHEN {is_total} THEN CAST(:from_ts AS timestamptz) ELSE r.bucket END AS bucket,
    CASE WHEN CAST(:by_agent AS boolean) THEN {agent_id} ELSE 0 END AS agent_id,
    CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service,
    coalesce(sum(r.requests) FILTER (WHERE r.outcome <> 'skipped_open'), 0) AS attempts, sum(r.retries) AS retries,
    sum(r.retry_successes) AS retry_successes,
    coalesce(sum(r.requests) FILTER (WHERE r.outcome = 'skipped_open'), 0) AS skipped,
    sum(r.backoff_ms_sum) AS backoff_ms
  FROM (
    SELECT * FROM tollwatch.{requests}_hourly
    WHERE project_id = :project_id AND bucket >= :from_ts AND bucket < least(:first_day, CAST(:to_ts AS timestamptz))
      AND ({is_total} OR bucket <= :before_bucket)
    UNION ALL
    SELECT * FROM tollwatch.{requests}_daily
    WHERE {is_total} AND project_id = :project_id AND bucket >= :first_day AND bucket < :last_day
    UNION ALL
    SELECT * FROM tollwatch.{requests}_hourly
    WHERE {is_total} AND project_id = :project_id AND bucket >= :last_day AND bucket < :to_ts
  ) r
  WHERE (CAST(:agent_id AS int) IS NULL OR {agent_id} = :agent_id)
    AND (CAST(:service AS text) IS NULL OR r.service = :service)
  GROUP BY 1, 2, 3
), spend AS MATERIALIZED (
  SELECT CASE WHEN {is_total} THEN CAST(:from_ts AS timestamptz) ELSE r.bucket END AS bucket,
    CASE WHEN CAST(:by_agent AS boolean) THEN {agent_id} ELSE 0 END AS agent_id,
    CASE WHEN CAST(:by_service AS boolean) THEN r.service ELSE '' END AS service, r.asset_id,
    sum(r.retry_amount) AS retry_amount
  FROM (
    SELECT * FROM tollwatch.{payments}_hourly
    WHERE project_id = :project_id AND bucket >= :from_ts AND bucket < least(:first_day, CAST(:to_ts AS timestamptz))
      AND ({is_total} OR bucket <= :before_bucket)
    UNION ALL
    SELECT * FROM tollwatch.{payments}_daily
    WHERE {is_total} AND project_id = :project_id AND bucket >= :first_day AND bucket < :last_day
    UNION ALL
    SELECT * FROM tollwatch.{payments}_hourly
    WHERE {is_total} AND project_id = :project_id AND bucket >= :last_day AND bucket < :to_ts
  ) r
  WHERE r.status = 'settled' AND r.retry_amount > 0
    AND (CAST(:agent_id AS int) IS NULL OR {agent_id} = :agent_id)
    AND (CAST(:service AS text) IS NULL OR r.service = :service)
  GROUP BY 1, 2, 3, 4
), skipped AS MATERIALIZED (
  SELECT r.bucket, r.agent_id, r.service, sum(r.requests) AS skipped
  FROM tollwatch.requests_hourly r
  WHERE r.project_id = :project_id AND r.outcome = 'skipped_open' AND r.bucket >= :from_ts AND r.bucket < :to_ts
    AND ({is_total} OR r.bucket <= :before_bucket)
    AND (CAST(:agent_id AS int) IS NULL OR r.agent_id = :agent_id)
    AND (CAST(:service AS text) IS NULL OR r.service = :service)
  GROUP BY 1, 2, 3
), live AS MATERIALIZED (
  SELECT r.bucket, r.agent_id, r.service, r.asset_id, r.payments, r.amount
  FROM tollwatch.payments_hourly r
  WHERE r.project_id = :project_id AND r.status = 'settled' AND r.bucket >= :live_from AND r.bucket < :to_ts
), avoided AS (
  SELECT s.bucket, s.agent_id, s.service, priced.asset_id, round(s.skipped * priced.amount / priced.payments) AS avoided_amount
  FROM skipped s
  CROSS JOIN LATERAL (
    SELECT k.asset_id, sum(k.payments) AS payments, sum(k.amount) AS amount
    FROM (
      SELECT r.asset_id, r.payments, r.amount
      FROM tollwatch.payments_hourly r
      WHERE r.project_id = :project_id AND r.agent_id = s.agent_id AND r.service = s.service AND r.status = 'settled'
        AND r.bucket BETWEEN s.bucket - INTERVAL '24 hours' AND s.bucket
        AND r.bucket >= CAST(:from_ts AS timestamptz) - INTERVAL '24 hours' AND r.bucket < :live_from
      UNION ALL
      SELECT r.asset_id, r.payments, r.amount
      FROM live r
      WHERE s.bucket >= :live_from AND r.agent_id = s.agent_id AND r.service = s.service
        AND r.bucket BETWEEN s.bucket - INTERVAL '24 hours' AND s.bucket
    ) k
    GROUP BY k.asset_id
    HAVING sum(k.payments) > 0
    ORDER BY sum(k.payments) DESC, k.asset_id
    LIMIT 1
  ) priced
), parts AS (
  SELECT bucket, agent_id, service, CAST(NULL AS int) AS asset_id, attempts, retries, retry_successes, skipped, backoff_ms,
    0 AS retry_amount, 0 AS avoided_amount
  FROM attempts
  UNION ALL
  SELECT bucket, agent_id, service, asset_id, 0, 0, 0, 0, 0, retry_amount, 0
  FROM spend
  UNION ALL
  SELECT CASE WHEN {is_total} THEN CAST(:from_ts AS timestamptz) ELSE bucket END,
    CASE WHEN CAST(:by_agent AS boolean) THEN agent_id ELSE 0 END,
    CASE WHEN CAST(:by_service AS boolean) THEN service ELSE '' END, asset_id, 0, 0, 0, 0, 0, 0, avoided_amount
  FROM avoided
  WHERE avoided_amount > 0
), grouped AS (
  SELECT p.bucket, p.agent_id, p.service, p.asset_id, sum(p.attempts) AS attempts, sum(p.retries) AS retries,
    sum(p.retry_successes) AS retry_successes, sum(p.skipped) AS skipped, sum(p.backoff_ms) AS backoff_ms,
    sum(p.retry_amount) AS retry_amount, sum(p.avoided_amount) AS avoided_amount
  FROM parts p
  WHERE (CAST(:asset_ids AS int[]) IS NULL OR p.asset_id IS NULL OR p.asset_id = ANY (:asset_ids))
    AND (p.bucket, p.agent_id, p.service)
      < (CAST(:before_bucket AS timestamptz), CAST(:before_agent_id AS int), CAST(:before_service AS text))
  GROUP BY 1, 2, 3, 4
)
SELECT h.*, g.name AS agent, CAST(h.retries / nullif(h.attempts, 0) AS float8) AS retry_rate,
  CAST(h.retry_successes / nullif(h.retries, 0) AS float8) AS retry_success_rate
FROM (
  SELECT k.bucket, k.agent_id, k.service, sum(k.attempts) AS attempts, sum(k.retries) AS retries,
    sum(k.retry_successes) AS retry_successes, sum(k.skipped) AS skipped, sum(k.backoff_ms) AS backoff_ms,
    CAST(coalesce(jsonb_agg(jsonb_build_object('asset', s.symbol, 'network', s.network,
      'retry_amount', CAST(k.retry_amount AS text), 'avoided_amount', CAST(k.avoided_amount AS text))
      ORDER BY s.id) FILTER (WHERE s.id IS NOT NULL), '[]') AS text) AS amounts
  FROM grouped k
  LEFT JOIN tollwatch.assets s ON s.id = k.asset_id
  GROUP BY k.bucket, k.agent_id, k.service
  ORDER BY k.bucket DESC, k.agent_id DESC, k.service DESC
  LIMIT :limit
) h
LEFT JOIN tollwatch.agents g ON g.id = h.agent_id
ORDER BY h.bucket DESC, h.agent_id DESC, h.service DESC
