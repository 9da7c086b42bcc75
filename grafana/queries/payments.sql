-- Panels of the dashboard "Payments and spend".

-- name: settled_total
-- What was settled, per asset.
SELECT asset, sum(tokens) AS tokens
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY asset
ORDER BY asset

-- name: settled_count
-- Payments that settled.
SELECT sum(payments) AS settled
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})

-- name: settled_share
-- Of the payments that ended, the share that settled.
SELECT sum(payments) FILTER (WHERE status = 'settled')
  / nullif(sum(payments) FILTER (WHERE status IN ('settled', 'failed', 'reverted')), 0) AS settled
FROM {payments}
WHERE network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})

-- name: open_count
-- Payments whose fate is not known.
SELECT count(*) AS "open"
FROM open_payments
WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})

-- name: open_money
-- Money whose fate is not known, per asset.
SELECT asset, sum(tokens) AS tokens
FROM open_payments
WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
GROUP BY asset
ORDER BY asset

-- name: open_oldest
-- Age of the oldest payment whose fate is not known.
SELECT max(extract(epoch FROM now() - opened_ts)) AS oldest
FROM open_payments
WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})

-- name: amount_by_status
-- Money by the status that payments reached, once per status.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", status || ' ' || asset AS metric, sum(tokens) AS value
FROM {payments}
WHERE network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: count_by_status
-- Payments by the status that they reached, once per status.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", status AS metric, sum(payments) AS value
FROM {payments}
WHERE network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: settled_by_origin
-- Settled money by who said so first.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", origin || ' ' || asset AS metric, sum(tokens) AS value
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: repeats_by_origin
-- Claims of a status that somebody had told before, by who repeated it.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", origin || ' ' || status AS metric, sum(duplicates) AS value
FROM {payments}
WHERE duplicates > 0 AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: settled_by_service
-- Settled money by service.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service || ' ' || asset AS metric, sum(tokens) AS value
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: settled_by_agent
-- Settled money by agent: those 20 that spent most.
WITH spent AS MATERIALIZED (
  SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", agent, asset, sum(tokens) AS tokens
  FROM {agent_payments}
  WHERE status = 'settled' AND network IN (${network:sqlstring})
    AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
  GROUP BY 1, 2, 3
)
SELECT "time", agent || ' ' || asset AS metric, tokens AS value
FROM spent
JOIN (SELECT agent, asset FROM spent GROUP BY 1, 2 ORDER BY sum(tokens) DESC, agent, asset LIMIT 20) most USING (agent, asset)
ORDER BY 1, 2

-- name: price
-- Average price of a settled payment, by service.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service || ' ' || asset AS metric,
  sum(tokens) / nullif(sum(payments), 0) AS value
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: latency
-- Median and 95th percentile of latency by service, merged from histograms. The same as latency_quantile(), for all services
-- and buckets in one pass.
SELECT "time", service || ' p' || q.percent AS metric,
  CASE WHEN cell < 0 THEN 0
       ELSE power(10, (cell + (q.percent / 100.0 * total - (upto - n)) / n) / 20) END AS value
FROM (
  SELECT "time", service, cell, n, sum(n) OVER (series ORDER BY cell) AS upto, sum(n) OVER series AS total
  FROM (
    SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service, latency_bucket AS cell,
      sum(requests)::float8 AS n
    FROM {latency}
    WHERE service IN (${service:sqlstring})
    GROUP BY 1, 2, 3
  ) cells
  WINDOW series AS (PARTITION BY "time", service)
) running
JOIN (VALUES (50), (95)) AS q (percent)
  ON upto >= q.percent / 100.0 * total AND upto - n < q.percent / 100.0 * total
ORDER BY 1, 2

-- name: outcomes
-- Attempts by outcome.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", outcome AS metric, sum(requests) AS value
FROM {requests}
WHERE service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: spend_by_service
-- What was bought from whom: payments, money, the lowest, average and highest price of an hour.
SELECT service, agent, asset, sum(payments) AS payments, sum(tokens) AS tokens, sum(retry_tokens) AS retry_tokens,
  min(tokens / nullif(payments, 0)) AS price_min, sum(tokens) / nullif(sum(payments), 0) AS price, max(tokens / nullif(payments, 0)) AS price_max
FROM {agent_payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
GROUP BY service, agent, asset
ORDER BY tokens DESC, service, agent
LIMIT 200

-- name: open_payments
-- Payments whose fate is not known, the oldest first.
SELECT opened_ts, extract(epoch FROM now() - opened_ts) AS age_s, status, agent, tokens, asset, origin, payment_id, request_id
FROM open_payments
WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
ORDER BY opened_ts, payment_id
LIMIT 100

-- name: failures
-- Payments that failed or were reverted, the newest first.
SELECT ts, status, agent, service, tokens, asset, coalesce(error_type, 'not said') AS error_type, failure_reason, origin,
  retry_count, signature, payment_id
FROM (
  SELECT found.*
  FROM {newest_first}
  CROSS JOIN LATERAL (
    SELECT *
    FROM payments
    WHERE $__timeFilter(ts) AND ts >= near.since AND ts < near.until
      AND status IN ('failed', 'reverted') AND NOT is_duplicate
      AND network IN (${network:sqlstring}) AND {agent}
      AND asset IN (${asset:sqlstring}) AND service IN (${service:sqlstring})
    ORDER BY ts DESC, id DESC
    LIMIT 100
  ) found
  LIMIT 100
) newest
ORDER BY ts DESC, id DESC
