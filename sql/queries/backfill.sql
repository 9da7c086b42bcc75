-- Backfill: facts older than ingest accepts, in batches. See store.backfill.

-- name: lock_totals
-- Until when each relation's buckets are folded; holds off folds, other backfills and rebuilds until the end of the
-- transaction, so that each new fact is either in the base or in a bucket that is still to be folded.
SELECT relation, folded_until FROM tollwatch.totals_state ORDER BY relation FOR UPDATE

-- name: forget_known
-- Take out of the staged rows what is stored already, and repeats within the batch: what is left is new. Returns how
-- many rows are left.
WITH kept AS (
  SELECT DISTINCT ON ({keys}) s.ctid FROM pg_temp.stage_{relation} s
  WHERE NOT EXISTS (SELECT FROM tollwatch.{relation} f WHERE ({f_keys}) = ({s_keys}))
  ORDER BY {keys}, s.batch, s.ctid
), gone AS (
  DELETE FROM pg_temp.stage_{relation} s WHERE s.ctid NOT IN (SELECT ctid FROM kept)
)
SELECT count(*) FROM kept

-- name: staged_hours
-- The hours that the staged rows touch.
SELECT DISTINCT date_bin('1 hour', ts, '2000-01-03 00:00+00'::timestamptz) FROM pg_temp.stage_{relation}

-- name: staged_crossings
-- Hours of the low_balance events that staged samples made.
SELECT DISTINCT date_bin('1 hour', e.ts, '2000-01-03 00:00+00'::timestamptz)
FROM pg_temp.stage_balance_samples s
JOIN tollwatch.audit_events e ON (e.project_id, e.ts, e.id) = (s.project_id, s.ts, s.crossing_id)

-- name: add_late_payments
-- Add new payments of buckets that are folded already to the payment totals.
INSERT INTO tollwatch.payment_totals AS t (project_id, agent_id, asset_id, status, origin, payments, amount)
SELECT p.project_id, p.agent_id, p.asset_id, p.status, p.origin,
  count(*) FILTER (WHERE NOT p.is_duplicate), coalesce(sum(p.amount) FILTER (WHERE NOT p.is_duplicate), 0)
FROM pg_temp.stage_payments s
JOIN tollwatch.payments p ON (p.project_id, p.ts, p.id) = (s.project_id, s.ts, s.id)
WHERE s.ts < :folded_until
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (project_id, agent_id, asset_id, status, origin) DO UPDATE
SET payments = t.payments + excluded.payments, amount = t.amount + excluded.amount

-- name: add_late_requests
-- Add new attempts of buckets that are folded already to the request totals.
INSERT INTO tollwatch.request_totals AS t (project_id, agent_id, service, outcome, requests, retries, latency_ms_sum)
SELECT project_id, agent_id, service, outcome, count(*), count(*) FILTER (WHERE attempt > 1), coalesce(sum(latency_ms), 0)
FROM pg_temp.stage_api_requests
WHERE ts < :folded_until
GROUP BY 1, 2, 3, 4
ON CONFLICT (project_id, agent_id, service, outcome) DO UPDATE
SET requests = t.requests + excluded.requests, retries = t.retries + excluded.retries,
  latency_ms_sum = t.latency_ms_sum + excluded.latency_ms_sum

-- name: add_late_latency
-- Add new attempts of buckets that are folded already to the latency totals.
INSERT INTO tollwatch.latency_totals AS t (project_id, agent_id, service, latency_bucket, requests)
SELECT project_id, agent_id, service,
  CASE WHEN latency_ms < 1 THEN -1 ELSE floor(20 * log(greatest(latency_ms, 1)::float8))::int END, count(*)
FROM pg_temp.stage_api_requests
WHERE ts < :folded_until AND latency_ms IS NOT NULL
GROUP BY 1, 2, 3, 4
ON CONFLICT (project_id, agent_id, service, latency_bucket) DO UPDATE SET requests = t.requests + excluded.requests

-- name: add_late_audit
-- Add new audit events of buckets that are folded already to the audit totals.
INSERT INTO tollwatch.audit_totals AS t (project_id, agent_id, event_type, severity, component, events)
SELECT project_id, coalesce(agent_id, 0), event_type, severity, coalesce(component, ''), count(*)
FROM pg_temp.stage_audit_events
WHERE ts < :folded_until
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (project_id, agent_id, event_type, severity, component) DO UPDATE SET events = t.events + excluded.events

-- name: add_late_crossings
-- Add the low_balance events that new samples made, of buckets that are folded already, to the audit totals.
INSERT INTO tollwatch.audit_totals AS t (project_id, agent_id, event_type, severity, component, events)
SELECT e.project_id, coalesce(e.agent_id, 0), e.event_type, e.severity, coalesce(e.component, ''), count(*)
FROM pg_temp.stage_balance_samples s
JOIN tollwatch.audit_events e ON (e.project_id, e.ts, e.id) = (s.project_id, s.ts, s.crossing_id)
WHERE e.ts < :folded_until
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (project_id, agent_id, event_type, severity, component) DO UPDATE SET events = t.events + excluded.events
