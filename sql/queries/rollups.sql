-- Own rollups (plain, Apache): see docs/architecture.md, Rollups. On community TimescaleDB's jobs do this.

-- name: lock_rollup
-- The watermark of one relation's rollups; holds off other workers until the end of the transaction.
SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = :relation FOR UPDATE

-- name: take_dirty
-- Take the dirty hours of one relation that are due: below the new watermark, oldest first, at most so many. Entries of
-- transactions that have not committed yet are not seen, and stay for the next run.
WITH due AS (
  SELECT DISTINCT bucket FROM tollwatch_internal.rollup_dirty
  WHERE relation = :relation AND bucket < :watermark
  ORDER BY bucket
  LIMIT :most
), taken AS (
  DELETE FROM tollwatch_internal.rollup_dirty d USING due
  WHERE d.relation = :relation AND d.bucket = due.bucket
  RETURNING d.bucket
)
SELECT DISTINCT bucket FROM taken ORDER BY bucket

-- name: hold_writers
-- Wait for writers of facts that have a rollup, and hold new ones until the end of the transaction, which must be soon.
LOCK TABLE tollwatch_internal.rollup_dirty IN SHARE ROW EXCLUSIVE MODE

-- name: compact_dirty
-- Many entries of one hour become one: the hours that are still live get an entry per writing statement.
WITH taken AS (
  DELETE FROM tollwatch_internal.rollup_dirty
  WHERE relation = :relation AND bucket >= :watermark
  RETURNING bucket
)
INSERT INTO tollwatch_internal.rollup_dirty (relation, bucket)
SELECT DISTINCT CAST(:relation AS text), bucket FROM taken

-- name: move_watermark
-- Buckets before the watermark are materialised.
UPDATE tollwatch_internal.rollup_state SET watermark = :watermark WHERE relation = :relation

-- name: own_exact_until
-- The newest instant before which nothing is pending: the oldest dirty hour below the watermark, else now.
SELECT coalesce(date_bin(CAST(:width AS interval), min(d.bucket), '2000-01-03 00:00+00'::timestamptz), now())
FROM tollwatch_internal.rollup_state s
LEFT JOIN tollwatch_internal.rollup_dirty d ON d.relation = s.relation AND d.bucket < s.watermark
WHERE s.relation = :relation

-- name: continuous_exact_until
-- The same where TimescaleDB keeps the log: the oldest change below the watermark that no refresh has seen. The log of
-- the hypertable holds changes not yet handed to the aggregates. The aggregate's own holds what refreshes left undone: of
-- it counts what a policy's window still reaches and what has a chunk, because a refresh passes over ranges without one
-- and leaves them there. What a refresh under way has taken from it is among the ranges until it is materialised. Behind
-- the window only a backfill writes, and it keeps a log of its own. Nothing counts that retention drops or has dropped:
-- dropping logs a change that no refresh may follow, or the rollup would be lost.
WITH aggregate AS (
  SELECT c.mat_hypertable_id, c.raw_hypertable_id,
    _timescaledb_functions.cagg_watermark(c.mat_hypertable_id) AS watermark,
    _timescaledb_functions.to_unix_microseconds(w.width + public.time_bucket(w.width,
      now() - (i.horizons ->> 'rollup_window')::float8 * INTERVAL '1 second')) AS window_start,
    _timescaledb_functions.to_unix_microseconds(
      now() + INTERVAL '1 day' - (i.horizons ->> CAST(:retention AS text))::float8 * INTERVAL '1 second') AS kept_from
  FROM unnest(CAST(:rollups AS text[]), CAST(:widths AS interval[])) AS w (rollup, width)
  JOIN _timescaledb_catalog.continuous_agg c ON (c.user_view_schema, c.user_view_name) = ('tollwatch', w.rollup)
  CROSS JOIN tollwatch.schema_info i
), pending AS (
  SELECT greatest(l.lowest_modified_value, a.kept_from) AS lowest
  FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log l
  JOIN aggregate a ON l.hypertable_id = a.raw_hypertable_id AND l.lowest_modified_value < a.watermark
    AND l.greatest_modified_value >= a.kept_from
  UNION ALL
  SELECT greatest(l.lowest_modified_value, a.window_start)
  FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log l
  JOIN aggregate a ON l.materialization_id = a.mat_hypertable_id AND l.lowest_modified_value < a.watermark
    AND l.greatest_modified_value >= a.window_start
  WHERE l.lowest_modified_value > -210866803200000000 AND EXISTS (
    SELECT FROM _timescaledb_catalog.chunk k
    JOIN _timescaledb_catalog.chunk_constraint n ON n.chunk_id = k.id
    JOIN _timescaledb_catalog.dimension_slice s ON s.id = n.dimension_slice_id
    WHERE k.hypertable_id = a.raw_hypertable_id
      AND s.range_start <= l.greatest_modified_value
      AND s.range_end > greatest(l.lowest_modified_value, a.window_start))
  UNION ALL
  SELECT greatest(r.lowest_modified_value, a.window_start)
  FROM _timescaledb_catalog.continuous_aggs_materialization_ranges r
  JOIN aggregate a ON r.materialization_id = a.mat_hypertable_id AND r.lowest_modified_value < a.watermark
    AND r.greatest_modified_value >= a.window_start
)
SELECT coalesce(public.time_bucket(CAST(:width AS interval), least(
    _timescaledb_functions.to_timestamp((SELECT min(lowest) FROM pending)),
    (SELECT min(d.bucket) FROM tollwatch_internal.rollup_dirty d
     WHERE d.relation = :relation
       AND _timescaledb_functions.to_unix_microseconds(d.bucket) < (SELECT max(watermark) FROM aggregate)))), now())

-- name: continuous_watermark
-- Buckets of one continuous aggregate before this instant are materialised, or were never; from it on they are aggregated
-- when read. Not before `oldest`: an aggregate that was never filled has a watermark that is no time.
SELECT greatest(CAST(:oldest AS timestamptz), _timescaledb_functions.to_timestamp(
  _timescaledb_functions.cagg_watermark(mat_hypertable_id)))
FROM _timescaledb_catalog.continuous_agg
WHERE user_view_schema = 'tollwatch' AND user_view_name = :rollup

-- name: log_backfill
-- Remember the hours that a backfill touches, in its own transaction (community; elsewhere a trigger does).
INSERT INTO tollwatch_internal.rollup_dirty (relation, bucket) SELECT :relation, unnest(CAST(:hours AS timestamptz[]))

-- name: backfilled_hours
-- Hours of one relation that a backfill touched and nobody refreshed yet, oldest first, with the entries that say so.
SELECT bucket, array_agg(id) AS entries
FROM tollwatch_internal.rollup_dirty
WHERE relation = :relation
GROUP BY bucket
ORDER BY bucket
LIMIT :most

-- name: forget_backfilled
-- Take those entries out: what they say is refreshed. Others that came meanwhile stay.
DELETE FROM tollwatch_internal.rollup_dirty WHERE id = ANY(CAST(:entries AS bigint[]))

-- name: log_hours_again
-- Log every hour below the watermark that has facts or rollup rows, so that a refresh makes it again. Returns how many.
WITH logged AS (
  INSERT INTO tollwatch_internal.rollup_dirty (relation, bucket)
  SELECT s.relation, held.bucket
  FROM tollwatch_internal.rollup_state s
  JOIN (
    SELECT date_bin('1 hour', ts, '2000-01-03 00:00+00'::timestamptz) AS bucket FROM tollwatch.{relation} WHERE ts >= :from_ts
    UNION
    {buckets}
  ) held ON held.bucket < s.watermark
  WHERE s.relation = :relation
  RETURNING 1
)
SELECT count(*) FROM logged

-- name: held_buckets
-- Buckets that one own rollup has rows of.
SELECT bucket FROM tollwatch_internal.{rollup} WHERE bucket >= :from_ts

-- name: refresh_continuous
-- Refresh one continuous aggregate now (backfill, rebuild; its policy does so otherwise). Runs outside transactions.
-- force: also what no log calls changed. Oldest first, as policies do.
CALL public.refresh_continuous_aggregate(CAST(:rollup AS regclass), CAST(:from_ts AS timestamptz), CAST(:to_ts AS timestamptz),
  force => :force, options => CAST('{"refresh_newest_first": false}' AS jsonb))

-- name: is_unfilled
-- Whether a continuous aggregate was never refreshed, although the one that it is made of was.
SELECT bool_or(user_view_name = :rollup AND watermark IS NULL) AND bool_or(user_view_name = :made_of AND watermark IS NOT NULL)
FROM (
  SELECT c.user_view_name,
    nullif(_timescaledb_functions.cagg_watermark(c.mat_hypertable_id), -210866803200000000) AS watermark
  FROM _timescaledb_catalog.continuous_agg c
  WHERE c.user_view_schema = 'tollwatch'
) w

-- name: fold_state
-- Until when one relation's buckets are folded; holds off other folds until the end of the transaction.
SELECT folded_until FROM tollwatch.totals_state WHERE relation = :relation FOR UPDATE

-- name: fold_payments
-- Add buckets [from_ts, to_ts) to the payment totals.
INSERT INTO tollwatch.payment_totals AS t (project_id, agent_id, asset_id, status, origin, payments, amount)
SELECT project_id, agent_id, asset_id, status, origin, sum(payments), sum(amount)
FROM tollwatch.payments_hourly
WHERE bucket >= :from_ts AND bucket < :to_ts
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (project_id, agent_id, asset_id, status, origin) DO UPDATE
SET payments = t.payments + excluded.payments, amount = t.amount + excluded.amount

-- name: fold_requests
-- Add buckets [from_ts, to_ts) to the request totals.
INSERT INTO tollwatch.request_totals AS t (project_id, agent_id, service, outcome, requests, retries, latency_ms_sum)
SELECT project_id, agent_id, service, outcome, sum(requests), sum(retries), sum(latency_ms_sum)
FROM tollwatch.requests_hourly
WHERE bucket >= :from_ts AND bucket < :to_ts
GROUP BY 1, 2, 3, 4
ON CONFLICT (project_id, agent_id, service, outcome) DO UPDATE
SET requests = t.requests + excluded.requests, retries = t.retries + excluded.retries,
  latency_ms_sum = t.latency_ms_sum + excluded.latency_ms_sum

-- name: fold_latency
-- Add buckets [from_ts, to_ts) to the latency totals.
INSERT INTO tollwatch.latency_totals AS t (project_id, agent_id, service, latency_bucket, requests)
SELECT project_id, agent_id, service, latency_bucket, sum(requests)
FROM tollwatch.request_latency_hourly
WHERE bucket >= :from_ts AND bucket < :to_ts
GROUP BY 1, 2, 3, 4
ON CONFLICT (project_id, agent_id, service, latency_bucket) DO UPDATE SET requests = t.requests + excluded.requests

-- name: fold_audit
-- Add buckets [from_ts, to_ts) to the audit totals.
INSERT INTO tollwatch.audit_totals AS t (project_id, agent_id, event_type, severity, component, events)
SELECT project_id, agent_id, event_type, severity, component, sum(events)
FROM tollwatch.audit_hourly
WHERE bucket >= :from_ts AND bucket < :to_ts
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (project_id, agent_id, event_type, severity, component) DO UPDATE SET events = t.events + excluded.events

-- name: move_fold
-- Buckets before folded_until are in the totals.
UPDATE tollwatch.totals_state SET folded_until = :to_ts WHERE relation = :relation

-- name: rollups_may_have_expired
-- Whether a bucket may be gone that the totals hold: this schema took facts as old as their retention when it was made.
SELECT created_at - CAST(:oldest_fact AS interval) < now() - CAST(:retain_rollups AS interval) FROM tollwatch.schema_info

-- name: rebuild_totals
-- Make one table of totals what the buckets below the fold horizon add up to. Returns how many rows were wrong.
WITH summed AS MATERIALIZED (
  SELECT {keys}, {sums} FROM tollwatch.{rollup} WHERE bucket < :folded_until GROUP BY {keys}
), gone AS (
  DELETE FROM tollwatch.{totals} t
  WHERE NOT EXISTS (SELECT FROM summed s WHERE ({t_keys}) = ({s_keys}))
  RETURNING 1
), put AS (
  INSERT INTO tollwatch.{totals} AS t ({keys}, {columns})
  SELECT {keys}, {columns} FROM summed
  ON CONFLICT ({keys}) DO UPDATE SET ({columns}) = ROW({new_columns})
  WHERE ({t_columns}) IS DISTINCT FROM ({new_columns})
  RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put)
