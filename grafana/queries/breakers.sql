-- Panels of the dashboard "Circuit breakers and retries".

-- name: breakers_not_closed
-- Breakers that are open or half open now.
SELECT count(*) AS "not closed"
FROM breakers
WHERE state <> 'closed' AND {agent} AND component IN (${component:sqlstring})

-- name: retry_rate_total
-- Share of the attempts that were retries.
SELECT sum(retries) / nullif(sum(requests), 0) AS "retry rate"
FROM {requests}
WHERE outcome <> 'skipped_open'
  AND service IN (${service:sqlstring})

-- name: retry_success_total
-- Share of the retries that were answered.
SELECT sum(retry_successes) / nullif(sum(retries), 0) AS "success after retry"
FROM {requests}
WHERE service IN (${service:sqlstring})

-- name: retry_cost_total
-- Money settled for retries, per asset.
SELECT asset, sum(retry_tokens) AS tokens
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND service IN (${service:sqlstring})
GROUP BY asset
ORDER BY asset

-- name: with_avoided
-- What both statements below begin with: money that attempts skipped by open breakers would have cost, at the average
-- price of the 24 hours before, in the asset that most of them were paid in; on ranges of more than a day at that of the
-- same day and the day before. retry_health says the same of each hour, but prices what nobody looks at: too slow here.
WITH skipped AS MATERIALIZED (
  SELECT bucket, agent, service, sum(requests) AS attempts
  FROM {agent_requests}
  WHERE outcome = 'skipped_open' AND service IN (${service:sqlstring})
  GROUP BY 1, 2, 3
), paid AS MATERIALIZED (
  SELECT bucket, agent, service, asset, sum(payments) AS payments, sum(tokens) AS tokens
  FROM {agent_payments_before}
  WHERE status = 'settled' AND network IN (${network:sqlstring}) AND service IN (${service:sqlstring})
    AND (agent, service) IN (SELECT agent, service FROM skipped)
  GROUP BY 1, 2, 3, 4
), priced_by AS MATERIALIZED (
  SELECT s.*, s.bucket - n * {bucket_of_agents} AS paid_in
  FROM skipped s
  CROSS JOIN generate_series(0, CASE WHEN {bucket_of_agents} < INTERVAL '1 day' THEN 24 ELSE 1 END) AS n
), priced AS (
  SELECT b.bucket, agent, service, asset, attempts, sum(payments) AS payments, sum(tokens) AS tokens
  FROM priced_by b
  JOIN paid p USING (agent, service)
  WHERE p.bucket = b.paid_in
  GROUP BY 1, 2, 3, 4, 5
), avoided AS (
  SELECT DISTINCT ON (bucket, agent, service) bucket, asset, attempts * tokens / payments AS tokens
  FROM priced
  WHERE payments > 0
  ORDER BY bucket, agent, service, payments DESC, asset
)

-- name: avoided_total
-- That money, per asset.
{with_avoided}
SELECT asset, sum(tokens) AS tokens FROM avoided GROUP BY asset ORDER BY asset

-- name: skipped_total
-- Attempts that open breakers held back.
SELECT coalesce(sum(requests), 0) AS skipped
FROM {requests}
WHERE outcome = 'skipped_open'
  AND service IN (${service:sqlstring})

-- name: states
-- State of each breaker: 0 closed, 1 half open, 2 open. One row where a state begins (or the range does), one at its end.
SELECT edge.at AS "time", agent || ' ' || component AS metric,
  CASE state WHEN 'open' THEN 2 WHEN 'half_open' THEN 1 ELSE 0 END AS value
FROM breaker_intervals
CROSS JOIN LATERAL (
  SELECT greatest(started_at, $__timeFrom()) AS at
  UNION ALL
  SELECT least(now(), $__timeTo()) WHERE ended_at IS NULL OR ended_at > $__timeTo()
) edge
WHERE started_at <= $__timeTo() AND (ended_at IS NULL OR ended_at > $__timeFrom())
  AND {agent} AND component IN (${component:sqlstring})
ORDER BY 1, 2

-- name: time_not_closed
-- Share of the range in which each breaker was open or half open.
SELECT agent || ' ' || component AS breaker,
  sum(extract(epoch FROM least(coalesce(ended_at, now()), $__timeTo()) - greatest(started_at, $__timeFrom())))
    / extract(epoch FROM least(now(), $__timeTo()) - $__timeFrom()::timestamptz) AS "of the time"
FROM breaker_intervals
WHERE state <> 'closed' AND started_at <= $__timeTo() AND (ended_at IS NULL OR ended_at > $__timeFrom())
  AND {agent} AND component IN (${component:sqlstring})
GROUP BY 1
ORDER BY 2 DESC, 1
LIMIT 30

-- name: transitions
-- How often breakers changed to each state.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", replace(event_type, 'breaker_', '') AS metric,
  sum(events) AS value
FROM {audit}
WHERE event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed')
  AND {agent} AND component IN (${component:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: transitions_latest
-- The newest transitions, and how long each state lasted; without an end: the present one.
SELECT started_at, agent, component, state, seconds, ended_at
FROM breaker_intervals
WHERE $__timeFilter(started_at) AND {agent} AND component IN (${component:sqlstring})
ORDER BY started_at DESC, agent, component
LIMIT 100

-- name: retry_rate
-- Share of the attempts that were retries, by service.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service AS metric,
  sum(retries) / nullif(sum(requests) FILTER (WHERE outcome <> 'skipped_open'), 0) AS value
FROM {requests}
WHERE service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: retry_success
-- Share of the retries that were answered, by service.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service AS metric,
  sum(retry_successes) / nullif(sum(retries), 0) AS value
FROM {requests}
WHERE service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: backoff
-- How long attempts waited before they were made, by service.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service AS metric,
  sum(backoff_ms_sum) AS value
FROM {requests}
WHERE service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: skipped
-- Attempts that open breakers held back, by service.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", service AS metric,
  coalesce(sum(requests) FILTER (WHERE outcome = 'skipped_open'), 0) AS value
FROM {requests}
WHERE service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: retry_cost
-- Money settled for retries, per asset.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", asset || ' spent' AS metric, sum(retry_tokens) AS value
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND service IN (${service:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: avoided
-- The same as a curve below zero.
{with_avoided}
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", asset || ' avoided' AS metric, -sum(tokens) AS value
FROM avoided
GROUP BY 1, 2
ORDER BY 1, 2

-- name: retries_by_service
-- Retries of each agent at each service, the most first.
SELECT agent, service, sum(requests) FILTER (WHERE outcome <> 'skipped_open') AS attempts, sum(retries) AS retries,
  sum(retries) / nullif(sum(requests) FILTER (WHERE outcome <> 'skipped_open'), 0) AS retry_rate,
  sum(retry_successes) / nullif(sum(retries), 0) AS success_after_retry,
  coalesce(sum(requests) FILTER (WHERE outcome = 'skipped_open'), 0) AS skipped, sum(backoff_ms_sum) AS backoff_ms
FROM {agent_requests}
WHERE service IN (${service:sqlstring})
GROUP BY agent, service
ORDER BY retries DESC, agent, service
LIMIT 100

-- name: causes
-- Why attempts did not succeed: the newest 1,000 of them within the range.
SELECT agent, service, outcome, coalesce(error_type, 'not said') AS error_type, count(*) AS attempts, max(ts) AS latest,
  (max(ARRAY[to_char(ts AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'), coalesce(failure_reason, '')]))[2] AS latest_reason
FROM (
  SELECT found.*
  FROM {newest_first}
  CROSS JOIN LATERAL (
    SELECT ts, agent, service, outcome, error_type, failure_reason
    FROM api_requests
    WHERE $__timeFilter(ts) AND ts >= near.since AND ts < near.until
      AND outcome IN ('retrying', 'failed', 'skipped_open') AND {agent} AND service IN (${service:sqlstring})
    ORDER BY ts DESC
    LIMIT 1000
  ) found
  LIMIT 1000
) newest
GROUP BY 1, 2, 3, 4
ORDER BY attempts DESC, agent, service
LIMIT 100
