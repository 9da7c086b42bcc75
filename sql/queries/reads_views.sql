-- Reads of the API over what follows from facts. As in reads.sql a page is cut first and named afterwards.

-- name: read_trail_keys
-- A page of the ledger's lines, newest first: where each is to be found. Returns ts, id, kind, request_id (of requests) and
-- told_ts: when its payment's head was told. A request's line is its last attempt; that it is the last is looked up for each
-- until the page is full, never for all of them.
SELECT k.ts, k.id, k.kind, k.request_id, (
    SELECT h.ts FROM tollwatch.payment_heads h WHERE h.project_id = :project_id AND h.payment_id = k.payment_id) AS told_ts
FROM (
  (
    SELECT q.ts, q.id, 'request' AS kind, q.request_id, q.payment_id
    FROM tollwatch.api_requests q
    WHERE (CAST(:kind AS text) IS NULL OR :kind = 'request')
      AND q.project_id = :project_id AND q.ts >= :from_ts AND q.ts <= :before_ts
      AND (q.ts, q.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
      AND (CAST(:agent_id AS int) IS NULL OR q.agent_id = :agent_id)
      AND (CAST(:request_id AS uuid) IS NULL OR q.request_id = :request_id)
      AND (CAST(:severity AS text) IS NULL
           OR :severity = 'info' AND q.outcome = 'ok' OR :severity = 'warning' AND q.outcome <> 'ok')
      AND q.id = (
        SELECT n.id
        FROM tollwatch.api_requests n
        WHERE n.project_id = :project_id AND n.request_id = q.request_id
          AND n.ts BETWEEN q.ts - INTERVAL '1 day' AND q.ts + INTERVAL '1 day'
          AND n.ts >= CAST(:from_ts AS timestamptz) - INTERVAL '1 day'
          AND n.ts <= CAST(:before_ts AS timestamptz) + INTERVAL '1 day'
        ORDER BY n.attempt DESC, n.ts DESC, n.id DESC
        LIMIT 1
      )
    ORDER BY q.ts DESC, q.id DESC
    LIMIT :limit
  )
  UNION ALL
  (
    SELECT e.ts, e.id, 'audit', NULL, NULL
    FROM tollwatch.audit_events e
    WHERE (CAST(:kind AS text) IS NULL OR :kind = 'audit')
      AND e.project_id = :project_id AND e.ts >= :from_ts AND e.ts <= :before_ts
      AND (e.ts, e.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
      AND (CAST(:agent_id AS int) IS NULL OR e.agent_id = :agent_id)
      AND (CAST(:request_id AS uuid) IS NULL OR e.request_id = :request_id)
      AND (CAST(:severity AS text) IS NULL OR e.severity = :severity)
    ORDER BY e.ts DESC, e.id DESC
    LIMIT :limit
  )
  UNION ALL
  (
    SELECT u.ts, u.id, 'queue', NULL, NULL
    FROM tollwatch.queue_events u
    WHERE (CAST(:kind AS text) IS NULL OR :kind = 'queue')
      AND u.project_id = :project_id AND u.ts >= :from_ts AND u.ts <= :before_ts
      AND (u.ts, u.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
      AND (CAST(:agent_id AS int) IS NULL OR u.agent_id = :agent_id)
      AND (CAST(:request_id AS uuid) IS NULL OR u.request_id = :request_id)
      AND (CAST(:severity AS text) IS NULL OR :severity = 'info')
    ORDER BY u.ts DESC, u.id DESC
    LIMIT :limit
  )
) k
ORDER BY k.ts DESC, k.id DESC
LIMIT :limit

-- name: read_trail_lines
-- Lines of the ledger by their keys, which lie at :times, from :first_ts to :last_ts, in the snapshot of the keys; their
-- payments were told from :first_told_ts to :last_told_ts. The columns are those of tollwatch.audit_trail; here what is looked
-- up around a line is bounded by plain times too, so that few partitions are looked into, and attempts are found together.
WITH attempts AS MATERIALIZED (
  SELECT a.request_id, a.ts, (
      SELECT h.amount FROM tollwatch.payment_heads h
      WHERE (h.project_id, h.payment_id) = (a.project_id, a.payment_id) AND h.status = 'settled') AS spent
  FROM tollwatch.api_requests a
  WHERE a.project_id = :project_id AND a.request_id = ANY (CAST(:request_ids AS uuid[]))
    AND a.ts >= CAST(:first_ts AS timestamptz) - INTERVAL '1 day'
    AND a.ts <= CAST(:last_ts AS timestamptz) + INTERVAL '1 day'
)
SELECT t.ts, t.kind, t.id, g.name AS agent, t.request_id, t.what, t.severity, t.component, t.service, t.resource, t.success,
  t.attempts, t.started_at, t.payment_id, t.payment_status, t.payment_origin, s.symbol AS asset, s.network, t.amount,
  t.spent, t.signature, t.balance_before, t.balance_after, CAST(t.details AS text) AS details, t.resolved_at
FROM (
  SELECT q.ts, 'request' AS kind, q.id, q.agent_id, q.request_id, q.outcome AS what,
    CASE WHEN q.outcome = 'ok' THEN 'info' ELSE 'warning' END AS severity, q.component, q.service, q.resource,
    q.outcome = 'ok' AS success, told.attempts, told.started_at, q.payment_id, h.status AS payment_status,
    h.origin AS payment_origin, h.asset_id, h.amount, told.spent, h.signature, before.amount AS balance_before,
    later.amount AS balance_after, CAST(NULL AS jsonb) AS details, CAST(NULL AS timestamptz) AS resolved_at
  FROM tollwatch.api_requests q
  CROSS JOIN LATERAL (
    SELECT count(*) AS attempts, min(a.ts) AS started_at, coalesce(sum(a.spent), 0) AS spent
    FROM attempts a
    WHERE a.request_id = q.request_id AND a.ts BETWEEN q.ts - INTERVAL '1 day' AND q.ts + INTERVAL '1 day'
  ) told
  LEFT JOIN tollwatch.payment_heads h ON (h.project_id, h.payment_id) = (q.project_id, q.payment_id)
  LEFT JOIN LATERAL (
    SELECT b.amount
    FROM tollwatch.balance_samples b
    WHERE b.project_id = :project_id AND b.wallet_id = q.wallet_id AND b.asset_id = h.asset_id
      AND b.ts <= told.started_at AND b.ts > told.started_at - INTERVAL '1 hour'
      AND b.ts >= CAST(:first_ts AS timestamptz) - INTERVAL '25 hours'
      AND b.ts <= CAST(:last_ts AS timestamptz)
    ORDER BY b.ts DESC
    LIMIT 1
  ) before ON true
  LEFT JOIN LATERAL (
    SELECT b.amount
    FROM tollwatch.balance_samples b
    WHERE b.project_id = :project_id AND b.wallet_id = q.wallet_id AND b.asset_id = h.asset_id
      AND b.ts > h.ts AND b.ts < h.ts + INTERVAL '1 hour'
      AND b.ts > :first_told_ts AND b.ts < CAST(:last_told_ts AS timestamptz) + INTERVAL '1 hour'
    ORDER BY b.ts
    LIMIT 1
  ) later ON true
  WHERE q.project_id = :project_id AND q.ts >= :first_ts AND q.ts <= :last_ts
    AND q.ts = ANY (CAST(:times AS timestamptz[])) AND q.id = ANY (CAST(:requests AS uuid[]))
  UNION ALL
  SELECT e.ts, 'audit', e.id, e.agent_id, e.request_id, e.event_type, e.severity, e.component, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, e.details, r.resolved_at
  FROM tollwatch.audit_events e
  LEFT JOIN tollwatch.audit_resolutions r ON (r.project_id, r.event_id) = (e.project_id, e.id)
  WHERE e.project_id = :project_id AND e.ts >= :first_ts AND e.ts <= :last_ts
    AND e.ts = ANY (CAST(:times AS timestamptz[])) AND e.id = ANY (CAST(:audits AS uuid[]))
  UNION ALL
  SELECT u.ts, 'queue', u.id, u.agent_id, u.request_id, u.state, 'info', u.reason, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, u.asset_id, NULL, NULL, NULL, u.balance, NULL,
    jsonb_build_object('priority_score', u.priority_score, 'freshness_s', u.freshness_s), NULL
  FROM tollwatch.queue_events u
  WHERE u.project_id = :project_id AND u.ts >= :first_ts AND u.ts <= :last_ts
    AND u.ts = ANY (CAST(:times AS timestamptz[])) AND u.id = ANY (CAST(:queues AS uuid[]))
) t
LEFT JOIN tollwatch.agents g ON g.id = t.agent_id
LEFT JOIN tollwatch.assets s ON s.id = t.asset_id
ORDER BY t.ts DESC, t.id DESC

-- name: read_queue
-- A page of the requests that wait now, the longest first.
SELECT v.agent_id, g.name AS agent, g.network, v.request_id, v.queued_at, v.priority_score, v.reason
FROM tollwatch.queue_state v
JOIN tollwatch.agents g ON g.id = v.agent_id
WHERE v.project_id = :project_id
  AND (v.queued_at, v.agent_id, v.request_id)
    > (CAST(:after_queued_at AS timestamptz), CAST(:after_agent_id AS int), CAST(:after_request_id AS uuid))
  AND (CAST(:agent_id AS int) IS NULL OR v.agent_id = :agent_id)
  AND (CAST(:reason AS text) IS NULL OR v.reason = :reason)
  AND (CAST(:request_id AS uuid) IS NULL OR v.request_id = :request_id)
ORDER BY v.queued_at, v.agent_id, v.request_id
LIMIT :limit

-- name: read_queue_events
-- A page of queue events, newest first.
SELECT u.ts, u.id, g.name AS agent, u.request_id, u.state, u.priority_score, u.reason, s.symbol AS asset, s.network,
  u.balance, u.freshness_s, u.origin, u.recorded_at
FROM (
  SELECT u.*
  FROM tollwatch.queue_events u
  WHERE u.project_id = :project_id AND u.ts >= :from_ts AND u.ts <= :before_ts
    AND (u.ts, u.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
    AND (CAST(:agent_id AS int) IS NULL OR u.agent_id = :agent_id)
    AND (CAST(:state AS text) IS NULL OR u.state = :state)
    AND (CAST(:reason AS text) IS NULL OR u.reason = :reason)
    AND (CAST(:request_id AS uuid) IS NULL OR u.request_id = :request_id)
  ORDER BY u.ts DESC, u.id DESC
  LIMIT :limit
) u
JOIN tollwatch.agents g ON g.id = u.agent_id
LEFT JOIN tollwatch.assets s ON s.id = u.asset_id
ORDER BY u.ts DESC, u.id DESC

-- name: read_sessions
-- A page of wallet sessions, by agent and session: tollwatch.session_usage but for tx_settled, which count_session_payments
-- counts afterwards.
SELECT v.agent_id, v.session_id, g.name AS agent, w.network, w.address_text AS wallet, v.status, v.tx_limit, v.tx_used,
  0 AS tx_settled, v.delegated_at, v.expires_at, v.revoked_at
FROM (
  SELECT v.agent_id, v.session_id, v.wallet_id, v.status, v.tx_limit, v.tx_used, v.delegated_at, v.expires_at, v.revoked_at
  FROM (
    SELECT s.project_id, s.agent_id, s.id AS session_id, s.wallet_id,
      CASE WHEN s.status = 'active' AND s.expires_at <= now() THEN 'expired' ELSE s.status END AS status,
      CAST(s.scope ->> 'tx_limit' AS integer) AS tx_limit, s.tx_used, s.delegated_at, s.expires_at, s.revoked_at
    FROM tollwatch.wallet_sessions s
  ) v
  WHERE v.project_id = :project_id
    AND (v.agent_id, v.session_id) > (CAST(:after_agent_id AS int), CAST(:after_session_id AS uuid))
    AND (CAST(:agent_id AS int) IS NULL OR v.agent_id = :agent_id)
    AND (CAST(:wallet_ids AS int[]) IS NULL OR v.wallet_id = ANY (:wallet_ids))
    AND (CAST(:status AS text) IS NULL OR v.status = :status)
  ORDER BY v.agent_id, v.session_id
  LIMIT :limit
) v
JOIN tollwatch.agents g ON g.id = v.agent_id
JOIN tollwatch.wallets w ON w.id = v.wallet_id
ORDER BY v.agent_id, v.session_id

-- name: count_session_payments
-- How many payments were seen to settle under each of some sessions, as tollwatch.session_usage counts them; here all are
-- found together, because columnstore has no index to look into for each. Returns session_id, payments; none: no row.
WITH asked AS MATERIALIZED (
  SELECT s.id, coalesce(s.delegated_at, s.created_at) - INTERVAL '1 hour' AS from_ts
  FROM tollwatch.wallet_sessions s
  WHERE s.project_id = :project_id AND s.id = ANY (CAST(:session_ids AS uuid[]))
), settled AS MATERIALIZED (
  SELECT p.session_id, p.ts
  FROM tollwatch.payments p
  WHERE p.project_id = :project_id AND p.session_id = ANY (CAST(:session_ids AS uuid[]))
    AND p.status = 'settled' AND NOT p.is_duplicate AND p.ts >= (SELECT min(from_ts) FROM asked)
)
SELECT p.session_id, count(*) AS payments
FROM settled p
JOIN asked s ON s.id = p.session_id AND p.ts >= s.from_ts
GROUP BY p.session_id

-- name: read_runway
-- A page of how long the money lasts, by wallet and asset: balance over what flowed out in the last 24 hours, or since the
-- first sample in them. The figures are those of tollwatch.runway; here the page's hours alone are summed, once and not per
-- wallet.
WITH page AS MATERIALIZED (
  SELECT h.wallet_id, h.asset_id, h.agent_id, h.ts, h.amount, h.threshold, h.status
  FROM tollwatch.balance_heads h
  WHERE h.project_id = :project_id
    AND (h.wallet_id, h.asset_id) > (CAST(:after_wallet_id AS int), CAST(:after_asset_id AS int))
    AND h.slot >= 0
    AND (CAST(:agent_id AS int) IS NULL OR h.agent_id = :agent_id)
    AND (CAST(:wallet_ids AS int[]) IS NULL OR h.wallet_id = ANY (:wallet_ids))
    AND (CAST(:asset_ids AS int[]) IS NULL OR h.asset_id = ANY (:asset_ids))
    AND (CAST(:status AS text) IS NULL OR h.status = :status)
  ORDER BY h.wallet_id, h.asset_id
  LIMIT :limit
), burnt AS MATERIALIZED (
  SELECT p.wallet_id, p.asset_id, sum(r.outflow) AS outflow,
    extract(epoch FROM max(r.last_ts) - min(r.first_ts)) / 3600 AS observed_hours
  FROM page p
  JOIN tollwatch.balances_hourly r ON (r.wallet_id, r.asset_id) = (p.wallet_id, p.asset_id)
  WHERE r.project_id = :project_id AND r.bucket >= now() - INTERVAL '24 hours'
    AND r.wallet_id >= (SELECT min(wallet_id) FROM page) AND r.wallet_id <= (SELECT max(wallet_id) FROM page)
  GROUP BY p.wallet_id, p.asset_id
)
SELECT h.wallet_id, h.asset_id, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, h.ts, h.amount,
  h.threshold, h.status, h.outflow, CAST(h.observed_hours AS float8) AS observed_hours,
  round(h.outflow / h.observed_hours) AS burn_per_hour,
  CAST(h.amount * h.observed_hours / nullif(h.outflow, 0) AS float8) AS runway_hours
FROM (
  SELECT p.*, coalesce(b.outflow, 0) AS outflow, greatest(b.observed_hours, 1.0 / 60) AS observed_hours
  FROM page p
  LEFT JOIN burnt b USING (wallet_id, asset_id)
) h
JOIN tollwatch.agents g ON g.id = h.agent_id
JOIN tollwatch.wallets w ON w.id = h.wallet_id
JOIN tollwatch.assets s ON s.id = h.asset_id
ORDER BY h.wallet_id, h.asset_id

-- name: read_breaker_intervals
-- A page of the times that circuit breakers spent in a state, those that lie in the range or reach into it; the newest
-- start first.
SELECT g.name AS agent, g.network, v.component, v.state, v.started_at, v.ended_at,
  CAST(extract(epoch FROM v.ended_at - v.started_at) AS float8) AS seconds, v.event_id, v.ended_by
FROM (
  SELECT v.agent_id, v.component, v.state, v.started_at, v.ended_at, v.event_id, v.ended_by
  FROM tollwatch.breaker_intervals v
  WHERE v.project_id = :project_id AND v.started_at < :to_ts AND (v.ended_at IS NULL OR v.ended_at > :from_ts)
    AND (v.started_at, v.event_id) < (CAST(:before_started_at AS timestamptz), CAST(:before_event_id AS uuid))
    AND (CAST(:agent_id AS int) IS NULL OR v.agent_id = :agent_id)
    AND (CAST(:component AS text) IS NULL OR v.component = :component)
    AND (CAST(:state AS text) IS NULL OR v.state = :state)
  ORDER BY v.started_at DESC, v.event_id DESC
  LIMIT :limit
) v
JOIN tollwatch.agents g ON g.id = v.agent_id
ORDER BY v.started_at DESC, v.event_id DESC
