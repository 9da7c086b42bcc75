-- Panels of the dashboard "Fleet".

-- name: low_wallets
-- Balances below their threshold. An account that the chain does not have is missed only if its
-- agent paid in that asset.
SELECT count(*) AS "low or paused"
FROM latest_balances
WHERE status <> 'sufficient'
  AND network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
  AND (reason IS DISTINCT FROM 'no_account'
    OR (agent, asset) IN (SELECT p.agent, p.asset FROM spend_by_service p WHERE $__timeFilter(p.bucket)))

-- name: shortest_runway
-- Hours until the first wallet is empty at its present rate of spending. NULL: nothing flows out.
SELECT min(runway_hours) AS "shortest runway"
FROM runway
WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})

-- name: paused_agents
-- Agents whose newest word within the range is that they paused.
SELECT count(*) FILTER (WHERE event_type = 'paused') AS paused
FROM (
  SELECT DISTINCT ON (agent) agent, event_type
  FROM audit_events
  WHERE $__timeFilter(ts) AND event_type IN ('paused', 'resumed') AND {agent}
  ORDER BY agent, ts DESC, id DESC
) told

-- name: open_breakers
-- Circuit breakers that are not closed.
SELECT count(*) AS "not closed" FROM breakers WHERE state <> 'closed' AND {agent}

-- name: waiting
-- Requests that wait for money, a breaker or a node.
SELECT count(*) AS waiting FROM queue_state WHERE {agent}

-- name: spent
-- What was settled, per asset.
SELECT asset, sum(tokens) AS tokens
FROM {payments}
WHERE status = 'settled' AND network IN (${network:sqlstring})
  AND asset IN (${asset:sqlstring})
GROUP BY asset
ORDER BY asset

-- name: balances
-- Balances: samples while the range is short, the last one of each hour or day on longer ones. By slot, not by clock. Those
-- of the 20 wallets that are nearest to their threshold.
WITH nearest AS (
  SELECT wallet, asset
  FROM latest_balances
  WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
  ORDER BY tokens / nullif(threshold_tokens, 0), wallet, asset
  LIMIT 20
)
SELECT date_bin('$__interval', ts, '2000-01-01Z') AS "time",
  agent || ' ' || left(wallet, 6) || ' ' || asset AS metric, (max(ARRAY[slot, tokens]))[2] AS value
FROM balance_samples
JOIN nearest USING (wallet, asset)
WHERE $__interval_ms < 60000 AND $__timeFilter(ts) AND network IN (${network:sqlstring})
GROUP BY 1, 2
UNION ALL
SELECT date_bin(greatest(INTERVAL '$__interval', INTERVAL '1 hour'), bucket, '2000-01-01Z'),
  agent || ' ' || left(wallet, 6) || ' ' || asset, (max(ARRAY[slot_last, tokens_last]))[2]
FROM {balances}
JOIN nearest USING (wallet, asset)
WHERE $__interval_ms >= 60000 AND network IN (${network:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: thresholds
-- The threshold in force of each of those balances, as a line over the whole range.
SELECT edge AS "time", 'threshold ' || agent || ' ' || left(wallet, 6) || ' ' || asset AS metric, threshold_tokens AS value
FROM (
  SELECT agent, wallet, asset, threshold_tokens
  FROM latest_balances
  WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
  ORDER BY tokens / nullif(threshold_tokens, 0), wallet, asset
  LIMIT 20
) nearest
CROSS JOIN unnest(ARRAY[$__timeFrom(), $__timeTo()]::timestamptz[]) AS edge
WHERE threshold_tokens IS NOT NULL
ORDER BY 1, 2

-- name: headroom
-- Each balance as a multiple of its own threshold: 1 is the threshold.
SELECT agent || ' ' || asset AS wallet, tokens / threshold_tokens AS "times its threshold"
FROM latest_balances
WHERE threshold_tokens > 0
  AND network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
  AND (reason IS DISTINCT FROM 'no_account'
    OR (agent, asset) IN (SELECT p.agent, p.asset FROM spend_by_service p WHERE $__timeFilter(p.bucket)))
ORDER BY 2, 1
LIMIT 30

-- name: runway
-- Every balance with its threshold, how fast it shrinks and how long it lasts; the shortest first.
SELECT agent, asset, wallet, status, tokens, threshold_tokens, burn_tokens_per_hour, runway_hours, observed_hours,
  ts AS sampled_at
FROM runway
WHERE network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
ORDER BY runway_hours NULLS LAST, agent, asset, wallet

-- name: low_or_paused
-- Who cannot go on as it is: balances below their threshold, and agents whose newest word is that they paused.
SELECT agent, 'wallet ' || left(wallet, 6) || ' ' || asset AS what, status AS state, ts AS since,
  round(threshold_tokens - tokens, 6) AS missing_tokens, coalesce(reason, 'below its threshold') AS why
FROM latest_balances
WHERE status <> 'sufficient'
  AND network IN (${network:sqlstring}) AND {agent} AND asset IN (${asset:sqlstring})
  AND (reason IS DISTINCT FROM 'no_account'
    OR (agent, asset) IN (SELECT p.agent, p.asset FROM spend_by_service p WHERE $__timeFilter(p.bucket)))
UNION ALL
SELECT agent, 'agent', event_type, ts, NULL, coalesce(details ->> 'reason', '')
FROM (
  SELECT DISTINCT ON (agent) agent, event_type, ts, details
  FROM audit_events
  WHERE $__timeFilter(ts) AND event_type IN ('paused', 'resumed') AND {agent}
  ORDER BY agent, ts DESC, id DESC
) told
WHERE event_type = 'paused'
ORDER BY 1, 2

-- name: flows
-- Money that came in (up) and went out (down), per asset.
SELECT "time", b.asset || ' ' || flow.way AS metric, flow.amount / 10::numeric ^ coalesce(decimals, 0) AS value
FROM (
  SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", network, asset, sum(inflow) AS inflow, sum(outflow) AS outflow
  FROM {balances}
  WHERE network IN (${network:sqlstring}) AND asset IN (${asset:sqlstring})
  GROUP BY 1, 2, 3
) b
JOIN assets s ON (s.network, s.symbol) = (b.network, b.asset)
CROSS JOIN LATERAL (VALUES ('in', inflow), ('out', -outflow)) AS flow (way, amount)
ORDER BY 1, 2

-- name: queue_moves
-- Requests that agents put off, took up again and gave up.
SELECT date_bin('$__interval', ts, '2000-01-01Z') AS "time", state AS metric, count(*) AS value
FROM queue_events
WHERE $__timeFilter(ts) AND {agent}
GROUP BY 1, 2
ORDER BY 1, 2

-- name: waiting_requests
-- Requests that wait now, the most urgent first.
SELECT agent, request_id, reason, priority_score, queued_at, extract(epoch FROM now() - queued_at) AS waiting_s
FROM queue_state
WHERE {agent}
ORDER BY priority_score DESC NULLS LAST, queued_at
LIMIT 100

-- name: sessions
-- Wallet sessions: what they allow, what agents say they used, what was seen to settle.
WITH shown AS (
  SELECT session_id
  FROM session_usage
  WHERE network IN (${network:sqlstring}) AND {agent}
  ORDER BY status, expires_at NULLS LAST, session_id
  LIMIT 100
)
SELECT usage.*
FROM shown
CROSS JOIN LATERAL (
  SELECT agent, wallet, session_id, status, tx_limit, tx_used, tx_settled,
    tx_used::float8 / nullif(tx_limit, 0) AS used, expires_at
  FROM session_usage u
  WHERE u.session_id = shown.session_id
  OFFSET 0 -- look up those of the page, in place of a join that counts the payments of all sessions first
) usage
ORDER BY status, expires_at NULLS LAST, session_id

-- name: audit_severities
-- Audit events by severity.
SELECT date_bin('$__interval', bucket, '2000-01-01Z') AS "time", severity AS metric, sum(events) AS value
FROM {audit}
GROUP BY 1, 2
ORDER BY 1, 2

-- name: audit_latest
-- The newest audit events.
SELECT ts, severity, event_type, agent, component, details::text AS details, resolved_at, origin, request_id
FROM (
  SELECT found.*
  FROM {newest_first}
  CROSS JOIN LATERAL (
    SELECT *
    FROM audit_events
    WHERE $__timeFilter(ts) AND ts >= near.since AND ts < near.until AND ({agent} OR agent IS NULL)
    ORDER BY ts DESC, id DESC
    LIMIT 100
  ) found
  LIMIT 100
) newest
ORDER BY ts DESC, id DESC
