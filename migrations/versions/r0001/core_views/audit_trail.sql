-- The ledger: one line per request (its last attempt, with what all its attempts paid), per audit event and per queue
-- event, in the order of ts. Always bound ts: lines of a request look for its attempts a day around, and for the balances
-- an hour around.
CREATE VIEW tollwatch.audit_trail AS
SELECT q.project_id, q.ts, 'request' AS kind, q.id, q.agent_id, q.request_id, q.outcome AS what,
  CASE WHEN q.outcome = 'ok' THEN 'info' ELSE 'warning' END AS severity, q.component, q.service, q.resource,
  q.outcome = 'ok' AS success, told.attempts, told.started_at, q.payment_id, h.status AS payment_status,
  h.origin AS payment_origin, h.asset_id, h.amount, told.spent, h.signature, before.amount AS balance_before,
  later.amount AS balance_after, CAST(NULL AS jsonb) AS details, CAST(NULL AS timestamptz) AS resolved_at
FROM tollwatch.api_requests q
CROSS JOIN LATERAL (
  SELECT count(*) AS attempts, min(a.ts) AS started_at,
    coalesce(sum(paid.amount) FILTER (WHERE paid.status = 'settled'), 0) AS spent
  FROM tollwatch.api_requests a
  LEFT JOIN tollwatch.payment_heads paid ON (paid.project_id, paid.payment_id) = (a.project_id, a.payment_id)
  WHERE a.project_id = q.project_id AND a.request_id = q.request_id
    AND a.ts BETWEEN q.ts - INTERVAL '1 day' AND q.ts + INTERVAL '1 day'
) told
LEFT JOIN tollwatch.payment_heads h ON (h.project_id, h.payment_id) = (q.project_id, q.payment_id)
LEFT JOIN LATERAL (
  SELECT b.amount FROM tollwatch.balance_samples b
  WHERE b.project_id = q.project_id AND b.wallet_id = q.wallet_id AND b.asset_id = h.asset_id
    AND b.ts <= told.started_at AND b.ts > told.started_at - INTERVAL '1 hour'
  ORDER BY b.ts DESC LIMIT 1
) before ON true
LEFT JOIN LATERAL (
  SELECT b.amount FROM tollwatch.balance_samples b
  WHERE b.project_id = q.project_id AND b.wallet_id = q.wallet_id AND b.asset_id = h.asset_id
    AND b.ts > h.ts AND b.ts < h.ts + INTERVAL '1 hour'
  ORDER BY b.ts LIMIT 1
) later ON true
WHERE q.id = (
  SELECT n.id FROM tollwatch.api_requests n
  WHERE n.project_id = q.project_id AND n.request_id = q.request_id
    AND n.ts BETWEEN q.ts - INTERVAL '1 day' AND q.ts + INTERVAL '1 day'
  ORDER BY n.attempt DESC, n.ts DESC, n.id DESC
  LIMIT 1
)
UNION ALL
SELECT e.project_id, e.ts, 'audit', e.id, e.agent_id, e.request_id, e.event_type, e.severity, e.component, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, e.details, r.resolved_at
FROM tollwatch.audit_events e
LEFT JOIN tollwatch.audit_resolutions r ON (r.project_id, r.event_id) = (e.project_id, e.id)
UNION ALL
SELECT u.project_id, u.ts, 'queue', u.id, u.agent_id, u.request_id, u.state, 'info', u.reason, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, u.asset_id, NULL, NULL, NULL, u.balance, NULL,
  jsonb_build_object('priority_score', u.priority_score, 'freshness_s', u.freshness_s), NULL
FROM tollwatch.queue_events u
