-- Template variables of the dashboards, and the annotation that they share.

-- name: network
-- Networks of the project. One at a time: money of two networks is never added up.
SELECT network FROM agents UNION SELECT network FROM wallets ORDER BY 1

-- name: agent
-- Every agent, archived ones too: their past stays.
SELECT agent FROM agents ORDER BY agent

-- name: asset
-- Assets of that network that a wallet holds or that were paid in.
SELECT asset FROM latest_balances WHERE network IN (${network:sqlstring})
UNION
SELECT asset FROM {payments_of_all} WHERE network IN (${network:sqlstring})
ORDER BY 1

-- name: service
-- Paid origins that were asked or paid.
SELECT service FROM {requests_of_all}
UNION
SELECT service FROM {payments_of_all}
ORDER BY 1

-- name: component
-- Components that a circuit breaker is held for.
SELECT DISTINCT component FROM breakers ORDER BY component

-- name: incidents
-- What explains a bend in a curve: breakers that open, agents that pause, wallets that are topped up.
SELECT ts AS "time", event_type AS title, concat_ws(' ', agent, component) AS "text", severity AS tags
FROM (
  SELECT found.*
  FROM {newest_first}
  CROSS JOIN LATERAL (
    SELECT ts, event_type, agent, component, severity
    FROM audit_events
    WHERE $__timeFilter(ts) AND ts >= near.since AND ts < near.until
      AND event_type IN ('breaker_opened', 'paused', 'resumed', 'topped_up', 'session_limit_reached')
      AND ({agent} OR agent IS NULL)
    ORDER BY ts DESC
    LIMIT 200
  ) found
  LIMIT 200
) newest
ORDER BY ts DESC
