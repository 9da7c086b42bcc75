-- The Prometheus exporter's facts: read together, in one read-only snapshot. See store/metrics_snapshot.py.
--
-- :project_id NULL means every project. Each statement returns at most :most rows per family, always the same ones (the
-- oldest ids), and says in `found` how many there are. Totals come in parts, in the same snapshot (store/metrics_totals.py
-- says from when to when): …_settled is the base plus the buckets up to :until, whole days as days; …_hours is the hours from
-- :from_ts to :to_ts. They have ids; metrics_names says who they are.

-- name: metrics_balances
-- Newest balance of every wallet and asset that is still in use, and how long it lasts (runway_s NULL: nothing flows out;
-- the figures are those of tollwatch.runway, with the hours summed once and not per wallet). Atomic units.
SELECT p.name AS project, g.name AS agent, w.network, w.address_text AS wallet, h.asset_id, h.amount, h.threshold, h.ts,
  CAST(h.amount * greatest(b.observed_s, 60) / nullif(b.outflow, 0) AS float8) AS runway_s, count(*) OVER () AS found
FROM tollwatch.balance_heads h
LEFT JOIN (
  SELECT r.project_id, r.wallet_id, r.asset_id, sum(r.outflow) AS outflow,
    extract(epoch FROM max(r.last_ts) - min(r.first_ts)) AS observed_s
  FROM tollwatch.balances_hourly r
  WHERE r.bucket >= now() - INTERVAL '24 hours' AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  GROUP BY 1, 2, 3
) b USING (project_id, wallet_id, asset_id)
JOIN tollwatch.projects p ON p.id = h.project_id
JOIN tollwatch.agents g ON g.id = h.agent_id AND g.archived_at IS NULL
JOIN tollwatch.wallets w ON w.id = h.wallet_id AND w.archived_at IS NULL
WHERE (CAST(:project_id AS int) IS NULL OR h.project_id = :project_id) AND h.slot >= 0
ORDER BY h.project_id, h.wallet_id, h.asset_id
LIMIT :most

-- name: metrics_folded
-- Until when the buckets of each relation are folded into its totals. Returns relation, folded_until.
SELECT relation, folded_until FROM tollwatch.totals_state

-- name: metrics_payments_settled
-- Totals of payments and their amounts. A group of nothing but repeats is left out: repeats move nothing.
SELECT parts.project_id, parts.agent_id, parts.asset_id, parts.status, parts.origin,
  CAST(sum(parts.payments) AS bigint) AS payments, sum(parts.amount) AS amount, count(*) OVER () AS found
FROM (
  SELECT b.project_id, b.agent_id, b.asset_id, b.status, b.origin, b.payments, b.amount
  FROM tollwatch.payment_totals b
  WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.agent_id, r.asset_id, r.status, r.origin, r.payments, r.amount
  FROM tollwatch.payments_hourly r
  WHERE r.bucket >= :folded_until AND r.bucket < :first_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.agent_id, r.asset_id, r.status, r.origin, r.payments, r.amount
  FROM tollwatch.payments_daily r
  WHERE r.bucket >= :first_day AND r.bucket < :last_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.agent_id, r.asset_id, r.status, r.origin, r.payments, r.amount
  FROM tollwatch.payments_hourly r
  WHERE r.bucket >= :last_day AND r.bucket < :until
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
) parts
GROUP BY 1, 2, 3, 4, 5
HAVING sum(parts.payments) > 0
ORDER BY 1, 2, 3, 4, 5
LIMIT :most

-- name: metrics_payments_hours
-- The same of hours alone.
SELECT parts.project_id, parts.agent_id, parts.asset_id, parts.status, parts.origin,
  CAST(sum(parts.payments) AS bigint) AS payments, sum(parts.amount) AS amount, count(*) OVER () AS found
FROM (
  SELECT r.project_id, r.agent_id, r.asset_id, r.status, r.origin, r.payments, r.amount
  FROM tollwatch.payments_hourly r
  WHERE r.bucket >= :from_ts AND r.bucket < :to_ts AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
) parts
GROUP BY 1, 2, 3, 4, 5
HAVING sum(parts.payments) > 0
ORDER BY 1, 2, 3, 4, 5
LIMIT :most

-- name: metrics_requests_settled
-- Totals of attempts, by outcome and (outcome NULL) over all outcomes. `found` and the limit are per family: with outcome,
-- and without.
SELECT t.project_id, t.agent_id, t.service, t.outcome, t.requests, t.retries, t.latency_ms_sum, t.found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.service, parts.outcome, CAST(sum(parts.requests) AS bigint) AS requests,
    CAST(sum(parts.retries) AS bigint) AS retries, sum(parts.latency_ms_sum) AS latency_ms_sum,
    row_number() OVER (PARTITION BY grouping(parts.outcome)
                       ORDER BY parts.project_id, parts.agent_id, parts.service, parts.outcome) AS place,
    count(*) OVER (PARTITION BY grouping(parts.outcome)) AS found
  FROM (
    SELECT b.project_id, b.agent_id, b.service, b.outcome, b.requests, b.retries, b.latency_ms_sum
    FROM tollwatch.request_totals b
    WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.outcome, r.requests, r.retries, r.latency_ms_sum
    FROM tollwatch.requests_hourly r
    WHERE r.bucket >= :folded_until AND r.bucket < :first_day
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.outcome, r.requests, r.retries, r.latency_ms_sum
    FROM tollwatch.requests_daily r
    WHERE r.bucket >= :first_day AND r.bucket < :last_day
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.outcome, r.requests, r.retries, r.latency_ms_sum
    FROM tollwatch.requests_hourly r
    WHERE r.bucket >= :last_day AND r.bucket < :until
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY GROUPING SETS ((1, 2, 3, 4), (1, 2, 3))
) t
WHERE t.place <= :most

-- name: metrics_requests_hours
-- The same of hours alone.
SELECT t.project_id, t.agent_id, t.service, t.outcome, t.requests, t.retries, t.latency_ms_sum, t.found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.service, parts.outcome, CAST(sum(parts.requests) AS bigint) AS requests,
    CAST(sum(parts.retries) AS bigint) AS retries, sum(parts.latency_ms_sum) AS latency_ms_sum,
    row_number() OVER (PARTITION BY grouping(parts.outcome)
                       ORDER BY parts.project_id, parts.agent_id, parts.service, parts.outcome) AS place,
    count(*) OVER (PARTITION BY grouping(parts.outcome)) AS found
  FROM (
    SELECT r.project_id, r.agent_id, r.service, r.outcome, r.requests, r.retries, r.latency_ms_sum
    FROM tollwatch.requests_hourly r
    WHERE r.bucket >= :from_ts AND r.bucket < :to_ts AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY GROUPING SETS ((1, 2, 3, 4), (1, 2, 3))
) t
WHERE t.place <= :most

-- name: metrics_latency_settled
-- Histogram of latency of every agent and service.
-- Returns cells (n: 10^(n/20) ≤ ms < 10^((n+1)/20); -1: less than a millisecond) and how many attempts each holds.
SELECT k.project_id, k.agent_id, k.service, array_agg(k.latency_bucket) AS cells, array_agg(k.requests) AS counts,
  count(*) OVER () AS found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.service, parts.latency_bucket,
    CAST(sum(parts.requests) AS bigint) AS requests
  FROM (
    SELECT b.project_id, b.agent_id, b.service, b.latency_bucket, b.requests
    FROM tollwatch.latency_totals b
    WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.latency_bucket, r.requests
    FROM tollwatch.request_latency_hourly r
    WHERE r.bucket >= :folded_until AND r.bucket < :first_day
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.latency_bucket, r.requests
    FROM tollwatch.request_latency_daily r
    WHERE r.bucket >= :first_day AND r.bucket < :last_day
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.latency_bucket, r.requests
    FROM tollwatch.request_latency_hourly r
    WHERE r.bucket >= :last_day AND r.bucket < :until
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY 1, 2, 3, 4
) k
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
LIMIT :most

-- name: metrics_latency_hours
-- The same of hours alone.
SELECT k.project_id, k.agent_id, k.service, array_agg(k.latency_bucket) AS cells, array_agg(k.requests) AS counts,
  count(*) OVER () AS found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.service, parts.latency_bucket,
    CAST(sum(parts.requests) AS bigint) AS requests
  FROM (
    SELECT r.project_id, r.agent_id, r.service, r.latency_bucket, r.requests
    FROM tollwatch.request_latency_hourly r
    WHERE r.bucket >= :from_ts AND r.bucket < :to_ts AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY 1, 2, 3, 4
) k
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
LIMIT :most

-- name: metrics_audit_settled
-- Totals of audit events. Two families, each with its own limit and `found`: by event type and severity (component NULL),
-- and of breaker events by component.
SELECT t.project_id, t.agent_id, t.event_type, t.severity, t.component, t.events, t.found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.event_type, parts.severity, parts.component,
    CAST(sum(parts.events) AS bigint) AS events,
    row_number() OVER (PARTITION BY grouping(parts.component)
      ORDER BY parts.project_id, parts.agent_id, parts.event_type, parts.severity, parts.component) AS place,
    count(*) OVER (PARTITION BY grouping(parts.component)) AS found
  FROM (
    SELECT b.project_id, b.agent_id, b.event_type, b.severity, b.component, b.events
    FROM tollwatch.audit_totals b
    WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.event_type, r.severity, r.component, r.events
    FROM tollwatch.audit_hourly r
    WHERE r.bucket >= :folded_until AND r.bucket < :first_day
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.event_type, r.severity, r.component, r.events
    FROM tollwatch.audit_daily r
    WHERE r.bucket >= :first_day AND r.bucket < :last_day
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
    UNION ALL
    SELECT r.project_id, r.agent_id, r.event_type, r.severity, r.component, r.events
    FROM tollwatch.audit_hourly r
    WHERE r.bucket >= :last_day AND r.bucket < :until
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY GROUPING SETS ((1, 2, 3, 4), (1, 2, 3, 5))
  HAVING grouping(parts.component) = 1
    OR parts.agent_id > 0 AND parts.event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed')
) t
WHERE t.place <= :most

-- name: metrics_audit_hours
-- The same of hours alone.
SELECT t.project_id, t.agent_id, t.event_type, t.severity, t.component, t.events, t.found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.event_type, parts.severity, parts.component,
    CAST(sum(parts.events) AS bigint) AS events,
    row_number() OVER (PARTITION BY grouping(parts.component)
      ORDER BY parts.project_id, parts.agent_id, parts.event_type, parts.severity, parts.component) AS place,
    count(*) OVER (PARTITION BY grouping(parts.component)) AS found
  FROM (
    SELECT r.project_id, r.agent_id, r.event_type, r.severity, r.component, r.events
    FROM tollwatch.audit_hourly r
    WHERE r.bucket >= :from_ts AND r.bucket < :to_ts AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY GROUPING SETS ((1, 2, 3, 4), (1, 2, 3, 5))
  HAVING grouping(parts.component) = 1
    OR parts.agent_id > 0 AND parts.event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed')
) t
WHERE t.place <= :most

-- name: metrics_payments_stamp
-- What everything that …_settled returns adds up to, by project: facts are only ever added, so as long as it is the same,
-- nothing was. Of the rollups without agents, which are small.
SELECT parts.project_id, sum(parts.payments) AS payments, sum(parts.amount) AS amount
FROM (
  SELECT b.project_id, b.payments, b.amount
  FROM tollwatch.payment_totals b
  WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.payments, r.amount
  FROM tollwatch.service_payments_hourly r
  WHERE r.bucket >= :folded_until AND r.bucket < :first_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.payments, r.amount
  FROM tollwatch.service_payments_daily r
  WHERE r.bucket >= :first_day AND r.bucket < :last_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.payments, r.amount
  FROM tollwatch.service_payments_hourly r
  WHERE r.bucket >= :last_day AND r.bucket < :until
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
) parts
GROUP BY 1

-- name: metrics_requests_stamp
-- The same of attempts, and so of their latencies.
SELECT parts.project_id, sum(parts.requests) AS requests, sum(parts.retries) AS retries, sum(parts.latency_ms_sum) AS ms
FROM (
  SELECT b.project_id, b.requests, b.retries, b.latency_ms_sum
  FROM tollwatch.request_totals b
  WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.requests, r.retries, r.latency_ms_sum
  FROM tollwatch.service_requests_hourly r
  WHERE r.bucket >= :folded_until AND r.bucket < :first_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.requests, r.retries, r.latency_ms_sum
  FROM tollwatch.service_requests_daily r
  WHERE r.bucket >= :first_day AND r.bucket < :last_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.requests, r.retries, r.latency_ms_sum
  FROM tollwatch.service_requests_hourly r
  WHERE r.bucket >= :last_day AND r.bucket < :until
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
) parts
GROUP BY 1

-- name: metrics_audit_stamp
-- The same of audit events.
SELECT parts.project_id, sum(parts.events) AS events
FROM (
  SELECT b.project_id, b.events
  FROM tollwatch.audit_totals b
  WHERE (CAST(:project_id AS int) IS NULL OR b.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.events
  FROM tollwatch.audit_hourly r
  WHERE r.bucket >= :folded_until AND r.bucket < :first_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.events
  FROM tollwatch.audit_daily r
  WHERE r.bucket >= :first_day AND r.bucket < :last_day
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  UNION ALL
  SELECT r.project_id, r.events
  FROM tollwatch.audit_hourly r
  WHERE r.bucket >= :last_day AND r.bucket < :until
    AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
) parts
GROUP BY 1

-- name: metrics_names
-- Who the ids are: every agent, archived ones too, and (agent_id 0) every project for facts of no agent.
SELECT g.project_id, g.id AS agent_id, p.name AS project, g.name AS agent, g.network
FROM tollwatch.agents g
JOIN tollwatch.projects p ON p.id = g.project_id
WHERE CAST(:project_id AS int) IS NULL OR g.project_id = :project_id
UNION ALL
SELECT p.id, 0, p.name, '', ''
FROM tollwatch.projects p
WHERE CAST(:project_id AS int) IS NULL OR p.id = :project_id

-- name: metrics_queues
-- How many requests of every agent in use wait now; 0 too.
SELECT p.name AS project, g.name AS agent, g.network, count(q.request_id) AS waiting, count(*) OVER () AS found
FROM tollwatch.agents g
JOIN tollwatch.projects p ON p.id = g.project_id
LEFT JOIN tollwatch.queue_state q ON (q.project_id, q.agent_id) = (g.project_id, g.id)
WHERE g.archived_at IS NULL AND (CAST(:project_id AS int) IS NULL OR g.project_id = :project_id)
GROUP BY p.name, g.id
ORDER BY g.id
LIMIT :most

-- name: metrics_open_payments
-- How many payments have a fate that is not known, by agent, network of the asset and status; none: no row.
SELECT p.name AS project, g.name AS agent, s.network, o.status, count(*) AS payments, count(*) OVER () AS found
FROM tollwatch.open_payments o
JOIN tollwatch.projects p ON p.id = o.project_id
JOIN tollwatch.agents g ON g.id = o.agent_id
JOIN tollwatch.assets s ON s.id = o.asset_id
WHERE CAST(:project_id AS int) IS NULL OR o.project_id = :project_id
GROUP BY o.project_id, p.name, g.id, s.network, o.status
ORDER BY o.project_id, g.id, s.network, o.status
LIMIT :most

-- name: metrics_breakers
-- Present state of every circuit breaker of an agent in use.
SELECT p.name AS project, g.name AS agent, g.network, b.component, b.state, count(*) OVER () AS found
FROM tollwatch.breaker_heads b
JOIN tollwatch.projects p ON p.id = b.project_id
JOIN tollwatch.agents g ON g.id = b.agent_id AND g.archived_at IS NULL
WHERE CAST(:project_id AS int) IS NULL OR b.project_id = :project_id
ORDER BY b.project_id, b.agent_id, b.component
LIMIT :most

-- name: metrics_assets
-- How to write the assets of a snapshot. mint is set where another registered asset, older and seen by the same project,
-- has the symbol on that network already: the mint must tell them apart, or two series would be one.
SELECT s.id AS asset_id, s.network, s.symbol, coalesce(s.decimals, 0) AS decimals,
  CASE WHEN EXISTS (
    SELECT FROM tollwatch.assets o
    WHERE o.network = s.network AND o.symbol = s.symbol AND o.id < s.id
      AND (o.project_id IS NULL OR o.project_id = s.project_id)
  ) THEN s.mint END AS mint
FROM tollwatch.assets s
WHERE s.id = ANY (CAST(:asset_ids AS int[]))

-- name: metrics_now
-- The database's clock at the start of the transaction, which rollups are compared with.
SELECT now()
