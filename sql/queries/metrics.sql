-- The Prometheus exporter's facts: read together, in one read-only snapshot. See store/metrics_snapshot.py.
--
-- :project_id NULL means every project. Each statement returns at most :most rows per family, always the same ones (the
-- oldest ids), and says in `found` how many there are.

-- name: metrics_balances
-- Newest balance of every wallet and asset that is still in use. Atomic units.
SELECT p.name AS project, g.name AS agent, w.network, w.address_text AS wallet, h.asset_id, h.amount, h.threshold, h.ts,
  count(*) OVER () AS found
FROM tollwatch.balance_heads h
JOIN tollwatch.projects p ON p.id = h.project_id
JOIN tollwatch.agents g ON g.id = h.agent_id AND g.archived_at IS NULL
JOIN tollwatch.wallets w ON w.id = h.wallet_id AND w.archived_at IS NULL
WHERE (CAST(:project_id AS int) IS NULL OR h.project_id = :project_id) AND h.slot >= 0
ORDER BY h.project_id, h.wallet_id, h.asset_id
LIMIT :most

-- name: metrics_payments
-- Totals of payments and their amounts: the base plus the buckets from the fold horizon on, in one statement, so that a
-- fold between two reads cannot be seen. A group of nothing but repeats is left out: repeats move nothing.
SELECT p.name AS project, g.name AS agent, t.asset_id, t.status, t.origin, t.payments, t.amount, t.found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.asset_id, parts.status, parts.origin,
    sum(parts.payments) AS payments, sum(parts.amount) AS amount, count(*) OVER () AS found
  FROM (
    SELECT b.project_id, b.agent_id, b.asset_id, b.status, b.origin, b.payments, b.amount
    FROM tollwatch.payment_totals b
    WHERE CAST(:project_id AS int) IS NULL OR b.project_id = :project_id
    UNION ALL
    SELECT r.project_id, r.agent_id, r.asset_id, r.status, r.origin, r.payments, r.amount
    FROM tollwatch.payments_hourly r
    WHERE r.bucket >= (SELECT folded_until FROM tollwatch.totals_state WHERE relation = 'payments')
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY 1, 2, 3, 4, 5
  HAVING sum(parts.payments) > 0
  ORDER BY 1, 2, 3, 4, 5
  LIMIT :most
) t
JOIN tollwatch.projects p ON p.id = t.project_id
JOIN tollwatch.agents g ON g.id = t.agent_id
ORDER BY t.project_id, t.agent_id, t.asset_id, t.status, t.origin

-- name: metrics_requests
-- Totals of attempts, by outcome and (outcome NULL) over all outcomes: the base plus the buckets from the fold horizon
-- on, in one statement. `found` and the limit are per family: with outcome, and without.
SELECT p.name AS project, g.name AS agent, g.network, t.service, t.outcome, t.requests, t.retries, t.found
FROM (
  SELECT parts.project_id, parts.agent_id, parts.service, parts.outcome,
    sum(parts.requests) AS requests, sum(parts.retries) AS retries,
    row_number() OVER (PARTITION BY grouping(parts.outcome)
                       ORDER BY parts.project_id, parts.agent_id, parts.service, parts.outcome) AS place,
    count(*) OVER (PARTITION BY grouping(parts.outcome)) AS found
  FROM (
    SELECT b.project_id, b.agent_id, b.service, b.outcome, b.requests, b.retries
    FROM tollwatch.request_totals b
    WHERE CAST(:project_id AS int) IS NULL OR b.project_id = :project_id
    UNION ALL
    SELECT r.project_id, r.agent_id, r.service, r.outcome, r.requests, r.retries
    FROM tollwatch.requests_hourly r
    WHERE r.bucket >= (SELECT folded_until FROM tollwatch.totals_state WHERE relation = 'api_requests')
      AND (CAST(:project_id AS int) IS NULL OR r.project_id = :project_id)
  ) parts
  GROUP BY GROUPING SETS ((1, 2, 3, 4), (1, 2, 3))
) t
JOIN tollwatch.projects p ON p.id = t.project_id
JOIN tollwatch.agents g ON g.id = t.agent_id
WHERE t.place <= :most
ORDER BY t.project_id, t.agent_id, t.service, t.outcome

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
