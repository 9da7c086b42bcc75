-- Storing facts. A batch is copied into temporary tables of the session and moved from there, so that a resend, in any
-- order and from any number of clients, changes nothing. Every statement takes its row locks in key order, and every
-- transaction writes the relations in the same order: two batches cannot wait for each other. `batch` is a row's batch in
-- its group: what two batches have is new in the first. To tell them apart takes a join, which a single batch is spared.

-- name: stage_payments
-- Where a batch of payments lands first. JSON travels as text.
CREATE TEMPORARY TABLE stage_payments ON COMMIT DELETE ROWS AS
SELECT project_id, ts, id, origin, payment_id, request_id, x402_payment_id, agent_id, wallet_id, session_id, status, amount,
  asset_id, pay_to, service, resource, facilitator, signature, slot, commitment, confirmations, fee_lamports, retry_count,
  backoff_ms, error_type, failure_reason, facilitator_response::text, metadata::text, CAST(NULL AS smallint) AS batch
FROM tollwatch.payments WITH NO DATA

-- name: stage_api_requests
-- Where a batch of requests lands first. JSON travels as text.
CREATE TEMPORARY TABLE stage_api_requests ON COMMIT DELETE ROWS AS
SELECT project_id, ts, id, origin, request_id, attempt, max_retries, agent_id, wallet_id, session_id, service, endpoint_type,
  resource, method, response_status, x402_version, payment_required::text, payment_id, paid, latency_ms, backoff_ms,
  component, breaker_state, outcome, error_type, failure_reason, request_digest, response_digest, response_bytes, data_as_of,
  CAST(NULL AS smallint) AS batch
FROM tollwatch.api_requests WITH NO DATA

-- name: stage_audit_events
-- Where a batch of audit events lands first. JSON travels as text.
CREATE TEMPORARY TABLE stage_audit_events ON COMMIT DELETE ROWS AS
SELECT project_id, ts, id, origin, event_type, severity, agent_id, component, request_id, entity_type, entity_id, details::text,
  CAST(NULL AS smallint) AS batch
FROM tollwatch.audit_events WITH NO DATA

-- name: stage_queue_events
-- Where a batch of queue events lands first.
CREATE TEMPORARY TABLE stage_queue_events ON COMMIT DELETE ROWS AS
SELECT project_id, ts, id, origin, agent_id, request_id, state, priority_score, reason, asset_id, balance, freshness_s,
  CAST(NULL AS smallint) AS batch
FROM tollwatch.queue_events WITH NO DATA

-- name: stage_balance_samples
-- Where a batch of balance samples lands first. crossing_id: the audit event's id, should this sample cross its threshold.
CREATE TEMPORARY TABLE stage_balance_samples ON COMMIT DELETE ROWS AS
SELECT project_id, wallet_id, asset_id, ts, agent_id, amount, slot, commitment, status, reason, origin,
  CAST(NULL AS uuid) AS crossing_id, CAST(NULL AS smallint) AS batch
FROM tollwatch.balance_samples WITH NO DATA

-- name: find_by_index
-- Until the end of the transaction, no plan reads heads from end to end. The driver prepares these statements, which have
-- no parameters, so PostgreSQL plans them once for a session: perhaps while there are few heads, and then there are many.
-- Before PostgreSQL 18 what is off has a cost that makes it compile the plan.
SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)

-- name: make_payment_heads
-- Make the heads that are missing, as the staged payments say, and lock the others, both in key order. DO UPDATE … WHERE
-- false locks a row and writes nothing.
INSERT INTO tollwatch.payment_heads AS h
  (project_id, payment_id, agent_id, asset_id, amount, status, origin, ts, rank, told, opened_ts, last_ts, request_id,
    signature)
SELECT DISTINCT ON (project_id, payment_id)
  project_id, payment_id, agent_id, asset_id, amount, status, origin, ts, rank,
  bit_or(tollwatch.payment_bit(status)) OVER payment, min(ts) OVER payment, max(ts) OVER payment,
  CAST(min(CAST(request_id AS text) COLLATE "C") OVER payment AS uuid),
  decode(min(encode(signature, 'hex') COLLATE "C") OVER payment, 'hex')
FROM (
  SELECT DISTINCT ON (project_id, ts, id) *, tollwatch.payment_rank(status, origin) AS rank
  FROM pg_temp.stage_payments
  ORDER BY project_id, ts, id, batch, ctid
) staged
WINDOW payment AS (PARTITION BY project_id, payment_id)
ORDER BY project_id, payment_id, rank DESC, ts, amount, asset_id, agent_id
ON CONFLICT (project_id, payment_id) DO UPDATE SET told = h.told WHERE false

-- name: store_payments
-- Move staged payments into the relation and into the heads that were there before. A transition is a duplicate when its
-- payment was told that status before, or when its transaction settled another payment. told: before this transaction;
-- -1: it made the head. Returns batch and stored; for batch -1, of how many it made a head or a settlement, but the id was
-- stored before with another content: then all of it must be undone.
WITH staged AS (
  SELECT DISTINCT ON (s.project_id, s.ts, s.id) s.*, (
      SELECT CASE WHEN h.xmin = CAST(pg_current_xact_id() AS xid) THEN -1 ELSE h.told END
      FROM tollwatch.payment_heads h
      WHERE (h.project_id, h.payment_id) = (s.project_id, s.payment_id)) AS told
  FROM pg_temp.stage_payments s
  ORDER BY s.project_id, s.ts, s.id, s.batch, s.ctid
), judged AS (
  SELECT *, greatest(told, 0) & tollwatch.payment_bit(status) <> 0
    OR row_number() OVER (PARTITION BY project_id, payment_id, status ORDER BY ts, id) > 1 AS repeated
  FROM staged
), settled AS (
  INSERT INTO tollwatch.payment_settlements (project_id, signature, payment_id)
  SELECT DISTINCT ON (project_id, signature) project_id, signature, payment_id
  FROM judged
  WHERE status = 'settled' AND signature IS NOT NULL AND NOT repeated
  ORDER BY project_id, signature, ts, id
  ON CONFLICT DO NOTHING
  RETURNING project_id, signature, payment_id
), stored AS (
  INSERT INTO tollwatch.payments (project_id, ts, id, origin, payment_id, request_id, x402_payment_id, agent_id, wallet_id,
    session_id, status, amount, asset_id, pay_to, service, resource, facilitator, signature, slot, commitment,
    confirmations, fee_lamports, retry_count, backoff_ms, error_type, failure_reason, facilitator_response, metadata,
    is_duplicate)
  SELECT project_id, ts, id, origin, payment_id, request_id, x402_payment_id, agent_id, wallet_id,
    session_id, status, amount, asset_id, pay_to, service, resource, facilitator, signature, slot, commitment,
    confirmations, fee_lamports, retry_count, backoff_ms, error_type, failure_reason, facilitator_response::jsonb,
    metadata::jsonb,
    repeated OR (status = 'settled' AND signature IS NOT NULL AND mine IS NULL)
  FROM judged
  LEFT JOIN (SELECT project_id AS of_project, signature AS by, payment_id AS mine FROM settled) settled
    ON (of_project, by, mine) = (project_id, signature, payment_id)
  ORDER BY project_id, ts, id
  ON CONFLICT DO NOTHING
  RETURNING project_id, ts, id, payment_id, agent_id, asset_id, amount, status, origin, request_id, signature
), best AS (
  SELECT DISTINCT ON (project_id, payment_id)
    project_id, payment_id, agent_id, asset_id, amount, status, origin, ts,
    tollwatch.payment_rank(status, origin) AS rank,
    bit_or(tollwatch.payment_bit(status)) OVER payment AS told, min(ts) OVER payment AS opened_ts,
    max(ts) OVER payment AS last_ts,
    CAST(min(CAST(request_id AS text) COLLATE "C") OVER payment AS uuid) AS request_id,
    decode(min(encode(signature, 'hex') COLLATE "C") OVER payment, 'hex') AS signature
  FROM stored
  WHERE (project_id, payment_id) IN (SELECT project_id, payment_id FROM judged WHERE told >= 0)
  WINDOW payment AS (PARTITION BY project_id, payment_id)
  ORDER BY project_id, payment_id, rank DESC, ts, amount, asset_id, agent_id
), moved AS (
  INSERT INTO tollwatch.payment_heads AS h
    (project_id, payment_id, agent_id, asset_id, amount, status, origin, ts, rank, told, opened_ts, last_ts, request_id,
      signature)
  SELECT project_id, payment_id, agent_id, asset_id, amount, status, origin, ts, rank, told, opened_ts, last_ts, request_id,
    signature
  FROM best
  ON CONFLICT (project_id, payment_id) DO UPDATE
  SET told = h.told | excluded.told,
    opened_ts = least(h.opened_ts, excluded.opened_ts),
    last_ts = greatest(h.last_ts, excluded.last_ts),
    request_id = least(h.request_id, excluded.request_id),
    signature = least(h.signature, excluded.signature),
    (rank, status, origin, ts, agent_id, asset_id, amount) = (
      SELECT w.rank, w.status, w.origin, w.ts, w.agent_id, w.asset_id, w.amount
      FROM (VALUES (excluded.rank, excluded.status, excluded.origin, excluded.ts, excluded.agent_id, excluded.asset_id,
                     excluded.amount),
                   (h.rank, h.status, h.origin, h.ts, h.agent_id, h.asset_id, h.amount))
        AS w (rank, status, origin, ts, agent_id, asset_id, amount)
      ORDER BY w.rank DESC, w.ts, w.amount, w.asset_id, w.agent_id
      LIMIT 1)
)
SELECT 0 AS batch, count(*) AS stored FROM stored
WHERE (SELECT max(batch) FROM pg_temp.stage_payments) = 0
UNION ALL
SELECT batch, count(*) FROM stored
JOIN (
  SELECT DISTINCT ON (project_id, ts, id) project_id, ts, id, batch
  FROM pg_temp.stage_payments
  ORDER BY project_id, ts, id, batch
) first USING (project_id, ts, id)
WHERE (SELECT max(batch) FROM pg_temp.stage_payments) > 0
GROUP BY batch
UNION ALL
SELECT -1, count(*) FROM judged
WHERE (SELECT count(*) FROM stored) < (SELECT count(*) FROM judged)
  AND (told < 0 OR (project_id, signature, payment_id) IN (SELECT project_id, signature, payment_id FROM settled))
  AND NOT EXISTS (SELECT FROM stored n WHERE (n.project_id, n.ts, n.id) = (judged.project_id, judged.ts, judged.id))
HAVING count(*) > 0

-- name: store_api_requests
-- Move staged requests into the relation. The number of rows is what is new.
INSERT INTO tollwatch.api_requests (project_id, ts, id, origin, request_id, attempt, max_retries, agent_id, wallet_id,
  session_id, service, endpoint_type, resource, method, response_status, x402_version, payment_required, payment_id, paid,
  latency_ms, backoff_ms, component, breaker_state, outcome, error_type, failure_reason, request_digest, response_digest,
  response_bytes, data_as_of)
SELECT project_id, ts, id, origin, request_id, attempt, max_retries, agent_id, wallet_id,
  session_id, service, endpoint_type, resource, method, response_status, x402_version, payment_required::jsonb, payment_id,
  paid, latency_ms, backoff_ms, component, breaker_state, outcome, error_type, failure_reason, request_digest,
  response_digest, response_bytes, data_as_of
FROM pg_temp.stage_api_requests
ORDER BY project_id, ts, id, batch
ON CONFLICT DO NOTHING

-- name: store_batches_of_api_requests
-- The same of several batches. Returns batch and stored.
WITH stored AS (
  {insert}
  RETURNING project_id, ts, id
)
SELECT batch, count(*) FROM stored
JOIN (
  SELECT DISTINCT ON (project_id, ts, id) project_id, ts, id, batch
  FROM pg_temp.stage_api_requests
  ORDER BY project_id, ts, id, batch
) first USING (project_id, ts, id)
GROUP BY batch

-- name: store_audit_events
-- Move staged audit events into the relation, and breaker transitions into their heads, by time. Returns batch,
-- stored, and breakers: whether there are openings or closings among them.
WITH stored AS (
  INSERT INTO tollwatch.audit_events (project_id, ts, id, origin, event_type, severity, agent_id, component, request_id,
    entity_type, entity_id, details)
  SELECT project_id, ts, id, origin, event_type, severity, agent_id, component, request_id, entity_type, entity_id,
    details::jsonb
  FROM pg_temp.stage_audit_events
  ORDER BY project_id, ts, id, batch
  ON CONFLICT DO NOTHING
  RETURNING project_id, agent_id, coalesce(component, '') AS component, event_type, ts, id
), latest AS (
  SELECT DISTINCT ON (project_id, agent_id, component) project_id, agent_id, component,
    CASE event_type WHEN 'breaker_opened' THEN 'open' WHEN 'breaker_half_opened' THEN 'half_open' ELSE 'closed' END AS state,
    ts, id
  FROM stored
  WHERE event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed') AND agent_id IS NOT NULL
  ORDER BY project_id, agent_id, component, ts DESC, id DESC
), moved AS (
  INSERT INTO tollwatch.breaker_heads AS h (project_id, agent_id, component, state, ts, event_id)
  SELECT project_id, agent_id, component, state, ts, id FROM latest
  ON CONFLICT (project_id, agent_id, component) DO UPDATE
  SET state = excluded.state, ts = excluded.ts, event_id = excluded.event_id
  WHERE (excluded.ts, excluded.event_id) > (h.ts, h.event_id)
)
SELECT 0 AS batch, count(*) AS stored, coalesce(bool_or(event_type IN ('breaker_opened', 'breaker_closed')), false) AS breakers FROM stored
WHERE (SELECT max(batch) FROM pg_temp.stage_audit_events) = 0
UNION ALL
SELECT batch, count(*), coalesce(bool_or(event_type IN ('breaker_opened', 'breaker_closed')), false) AS breakers FROM stored
JOIN (
  SELECT DISTINCT ON (project_id, ts, id) project_id, ts, id, batch
  FROM pg_temp.stage_audit_events
  ORDER BY project_id, ts, id, batch
) first USING (project_id, ts, id)
WHERE (SELECT max(batch) FROM pg_temp.stage_audit_events) > 0
GROUP BY batch

-- name: resolve_breakers
-- breaker_closed resolves the breaker_opened events before it, whichever arrives first. Looks a week around the staged
-- ones. A closing that arrives late but happened earlier takes the resolution over; a person's stays.
WITH touched AS (
  SELECT project_id, agent_id, component, min(ts) AS first_ts, max(ts) AS last_ts
  FROM pg_temp.stage_audit_events
  WHERE event_type IN ('breaker_opened', 'breaker_closed')
  GROUP BY 1, 2, 3
), openings AS (
  SELECT e.project_id, e.id, e.ts, closing.id AS closed_by, closing.ts AS closed_at
  FROM touched t
  JOIN tollwatch.audit_events e ON e.project_id = t.project_id AND e.agent_id = t.agent_id
    AND e.component IS NOT DISTINCT FROM t.component AND e.event_type = 'breaker_opened'
    AND e.ts BETWEEN t.first_ts - INTERVAL '7 days' AND t.last_ts
  CROSS JOIN LATERAL (
    SELECT c.id, c.ts FROM tollwatch.audit_events c
    WHERE c.project_id = e.project_id AND c.agent_id = e.agent_id AND c.component IS NOT DISTINCT FROM e.component
      AND c.event_type = 'breaker_closed' AND c.ts >= e.ts AND c.ts <= e.ts + INTERVAL '7 days'
    ORDER BY c.ts, c.id
    LIMIT 1
  ) closing
)
INSERT INTO tollwatch.audit_resolutions AS r
  (project_id, event_id, event_ts, resolved_by, resolved_at, note, automatic)
SELECT project_id, id, ts, 'breaker_closed ' || closed_by, closed_at, NULL, true
FROM openings
ORDER BY project_id, id
ON CONFLICT (project_id, event_id) DO UPDATE
SET resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at
WHERE r.automatic AND excluded.resolved_at < r.resolved_at

-- name: store_queue_events
-- Move staged queue events into the relation and their heads, by time; at one time, leaving the queue comes last.
-- Returns batch and stored.
WITH stored AS (
  INSERT INTO tollwatch.queue_events (project_id, ts, id, origin, agent_id, request_id, state, priority_score, reason,
    asset_id, balance, freshness_s)
  SELECT project_id, ts, id, origin, agent_id, request_id, state, priority_score, reason, asset_id, balance, freshness_s
  FROM pg_temp.stage_queue_events
  ORDER BY project_id, ts, id, batch
  ON CONFLICT DO NOTHING
  RETURNING id, project_id, agent_id, request_id, state, ts, priority_score, reason
), latest AS (
  SELECT DISTINCT ON (project_id, agent_id, request_id) project_id, agent_id, request_id, state, ts,
    min(ts) FILTER (WHERE state = 'queued') OVER (PARTITION BY project_id, agent_id, request_id) AS queued_ts,
    priority_score, reason
  FROM stored
  ORDER BY project_id, agent_id, request_id, ts DESC, state = 'queued', state, priority_score, reason
), moved AS (
  INSERT INTO tollwatch.queue_heads AS h
    (project_id, agent_id, request_id, state, ts, queued_ts, priority_score, reason)
  SELECT * FROM latest
  ON CONFLICT (project_id, agent_id, request_id) DO UPDATE
  SET queued_ts = least(h.queued_ts, excluded.queued_ts),
    (state, ts, priority_score, reason) = (
      SELECT w.state, w.ts, w.priority_score, w.reason
      FROM (VALUES (h.state, h.ts, h.priority_score, h.reason),
                   (excluded.state, excluded.ts, excluded.priority_score, excluded.reason))
        AS w (state, ts, priority_score, reason)
      ORDER BY w.ts DESC, w.state = 'queued', w.state, w.priority_score, w.reason
      LIMIT 1)
)
SELECT 0 AS batch, count(*) AS stored FROM stored
WHERE (SELECT max(batch) FROM pg_temp.stage_queue_events) = 0
UNION ALL
SELECT batch, count(*) FROM stored
JOIN (
  SELECT DISTINCT ON (project_id, ts, id) project_id, ts, id, batch
  FROM pg_temp.stage_queue_events
  ORDER BY project_id, ts, id, batch
) first USING (project_id, ts, id)
WHERE (SELECT max(batch) FROM pg_temp.stage_queue_events) > 0
GROUP BY batch

-- name: lock_balance_heads
-- Lock the heads of the staged samples in key order, making those that are missing (slot -1: nothing known yet).
INSERT INTO tollwatch.balance_heads AS h
  (project_id, wallet_id, asset_id, agent_id, ts, amount, slot, commitment, status)
SELECT DISTINCT ON (project_id, wallet_id, asset_id)
  project_id, wallet_id, asset_id, agent_id, ts, 0, -1, commitment, 'sufficient'
FROM pg_temp.stage_balance_samples
ORDER BY project_id, wallet_id, asset_id
ON CONFLICT (project_id, wallet_id, asset_id) DO UPDATE SET slot = h.slot WHERE false

-- name: store_balance_samples
-- Move staged samples into the relation and their heads (never to a lower slot), comparing each with the threshold in
-- force: the wallet's own for that asset, else its agent's. A sample that is the first below its threshold leaves one
-- low_balance event. change: since the sample before it by slot. Returns batch and stored.
WITH staged AS (
  SELECT DISTINCT ON (s.project_id, s.wallet_id, s.asset_id, s.ts) s.*,
    coalesce(t.amount,
      least(floor(g.low_balance_threshold * 10::numeric ^ coalesce(a.decimals, 0)), 9223372036854775807)::bigint) AS threshold
  FROM pg_temp.stage_balance_samples s
  JOIN tollwatch.agents g ON g.id = s.agent_id
  JOIN tollwatch.assets a ON a.id = s.asset_id
  LEFT JOIN tollwatch.wallet_thresholds t ON (t.wallet_id, t.asset_id) = (s.wallet_id, s.asset_id)
  ORDER BY s.project_id, s.wallet_id, s.asset_id, s.ts, s.batch
), advancing AS (
  SELECT s.project_id, s.wallet_id, s.asset_id, s.ts, s.amount - coalesce(
    lag(s.amount) OVER (PARTITION BY project_id, wallet_id, asset_id ORDER BY s.slot, s.ts),
    CASE WHEN h.slot >= 0 THEN h.amount END) AS change
  FROM staged s
  JOIN tollwatch.balance_heads h USING (project_id, wallet_id, asset_id)
  WHERE (s.slot, s.ts) > (h.slot, h.ts) OR h.slot < 0
), stored AS (
  INSERT INTO tollwatch.balance_samples (project_id, wallet_id, asset_id, ts, agent_id, amount, slot, commitment, threshold,
    status, reason, change, origin)
  SELECT project_id, wallet_id, asset_id, ts, agent_id, amount, slot, commitment, threshold,
    coalesce(status, CASE WHEN amount < threshold THEN 'low' ELSE 'sufficient' END), reason, change, origin
  FROM staged
  LEFT JOIN advancing USING (project_id, wallet_id, asset_id, ts)
  ORDER BY project_id, wallet_id, asset_id, ts
  ON CONFLICT DO NOTHING
  RETURNING project_id, wallet_id, asset_id, ts, agent_id, amount, slot, commitment, threshold, status, reason
), line AS (
  SELECT n.*, coalesce(lag(n.status) OVER (PARTITION BY project_id, wallet_id, asset_id ORDER BY n.slot, n.ts), h.status)
    AS status_before
  FROM stored n
  JOIN tollwatch.balance_heads h USING (project_id, wallet_id, asset_id)
  WHERE (n.slot, n.ts) > (h.slot, h.ts) OR h.slot < 0
), crossed AS (
  INSERT INTO tollwatch.audit_events
    (project_id, ts, id, event_type, severity, agent_id, component, entity_type, entity_id, details, origin)
  SELECT l.project_id, l.ts, s.crossing_id, 'low_balance', 'warning', l.agent_id, 'balance', 'wallet', w.address_text,
    jsonb_build_object('asset', a.symbol, 'amount', l.amount::text, 'threshold', l.threshold::text, 'slot', l.slot),
    'collector'
  FROM line l
  JOIN staged s USING (project_id, wallet_id, asset_id, ts)
  JOIN tollwatch.wallets w ON w.id = l.wallet_id
  JOIN tollwatch.assets a ON a.id = l.asset_id
  WHERE l.status = 'low' AND l.status_before = 'sufficient'
  ON CONFLICT DO NOTHING
), moved AS (
  UPDATE tollwatch.balance_heads h
  SET agent_id = n.agent_id, ts = n.ts, amount = n.amount, slot = n.slot, commitment = n.commitment,
    threshold = n.threshold, status = n.status, reason = n.reason
  FROM (
    SELECT DISTINCT ON (project_id, wallet_id, asset_id) * FROM line
    ORDER BY project_id, wallet_id, asset_id, slot DESC, ts DESC
  ) n
  WHERE (h.project_id, h.wallet_id, h.asset_id) = (n.project_id, n.wallet_id, n.asset_id)
)
SELECT 0 AS batch, count(*) AS stored FROM stored
WHERE (SELECT max(batch) FROM pg_temp.stage_balance_samples) = 0
UNION ALL
SELECT batch, count(*) FROM stored
JOIN (
  SELECT DISTINCT ON (project_id, wallet_id, asset_id, ts) project_id, wallet_id, asset_id, ts, batch FROM pg_temp.stage_balance_samples ORDER BY project_id, wallet_id, asset_id, ts, batch
) first USING (project_id, wallet_id, asset_id, ts)
WHERE (SELECT max(batch) FROM pg_temp.stage_balance_samples) > 0
GROUP BY batch
