-- Heads: made again from the facts, and pruned. Names of tables and columns are ours (store.heads), never a caller's.

-- name: payment_heads_from_facts
-- Every payment's head, as its kept transitions make it.
SELECT DISTINCT ON (project_id, payment_id) project_id, payment_id, agent_id, asset_id, amount,
  CAST(bit_or(tollwatch.payment_bit(status)) OVER payment AS integer) AS told,
  tollwatch.payment_rank(status, origin) AS rank, status, origin, ts,
  min(ts) OVER payment AS opened_ts, max(ts) OVER payment AS last_ts,
  first_value(request_id) OVER (payment ORDER BY request_id) AS request_id,
  first_value(signature) OVER (payment ORDER BY signature) AS signature
FROM tollwatch.payments
WINDOW payment AS (PARTITION BY project_id, payment_id)
ORDER BY project_id, payment_id, rank DESC, ts, amount, asset_id, agent_id

-- name: payment_settlements_from_facts
-- Which payment each transaction settled.
SELECT DISTINCT ON (project_id, signature) project_id, signature, payment_id
FROM tollwatch.payments
WHERE status = 'settled' AND signature IS NOT NULL AND NOT is_duplicate
ORDER BY project_id, signature, ts, id

-- name: balance_heads_from_facts
-- The latest sample, by slot, of every wallet and asset.
SELECT DISTINCT ON (project_id, wallet_id, asset_id)
  project_id, wallet_id, asset_id, agent_id, ts, amount, slot, commitment, threshold, status, reason
FROM tollwatch.balance_samples
ORDER BY project_id, wallet_id, asset_id, slot DESC, ts DESC

-- name: breaker_heads_from_facts
-- The latest transition of every circuit breaker.
SELECT DISTINCT ON (project_id, agent_id, component) project_id, agent_id, coalesce(component, '') AS component,
  CASE event_type WHEN 'breaker_opened' THEN 'open' WHEN 'breaker_half_opened' THEN 'half_open' ELSE 'closed' END AS state,
  ts, id AS event_id
FROM tollwatch.audit_events
WHERE event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed') AND agent_id IS NOT NULL
ORDER BY project_id, agent_id, component, ts DESC, id DESC

-- name: queue_heads_from_facts
-- The latest state of every request that was put off; at one time, leaving the queue comes last.
SELECT DISTINCT ON (project_id, agent_id, request_id) project_id, agent_id, request_id, state, ts,
  min(ts) FILTER (WHERE state = 'queued') OVER (PARTITION BY project_id, agent_id, request_id) AS queued_ts,
  priority_score, reason
FROM tollwatch.queue_events
ORDER BY project_id, agent_id, request_id, ts DESC, state = 'queued', state, priority_score, reason

-- name: drop_suspects
-- Forget the last round's suspects.
DROP TABLE IF EXISTS pg_temp.suspects

-- name: find_suspects
-- Heads that are not what their facts make them, in one snapshot: facts and heads move in one transaction, so a writer
-- at work is no suspect. seen and version: the row as it was; a writer that moves it changes them. A head of which facts
-- may have expired is left as it is.
CREATE TEMPORARY TABLE suspects AS
SELECT row_number() OVER (ORDER BY {keys}) AS n, coalesce(made.present, false) AS present, h.ctid AS seen,
  CAST(CAST(h.xmin AS text) AS bigint) AS version, {keys}, {made}
FROM (SELECT *, true AS present FROM ({facts}) facts) made
FULL JOIN tollwatch.{head} h USING ({keys})
WHERE h.ctid IS NULL
  OR (made.present IS NULL AND {whole})
  OR (made.present AND {whole} AND ({made}) IS DISTINCT FROM ({held}))

-- name: count_suspects
-- How many there are.
SELECT count(*) FROM pg_temp.suspects

-- name: lock_suspects
-- Lock the heads of some suspects, in the key order of every writer.
SELECT FROM tollwatch.{head} h JOIN pg_temp.suspects s USING ({keys})
WHERE s.n > :after AND s.n <= :upto
ORDER BY {keys}
FOR UPDATE OF h

-- name: mend_suspects
-- Make them what their facts say, unless a writer moved them since.
UPDATE tollwatch.{head} h SET ({columns}) = ROW({s_columns})
FROM pg_temp.suspects s
WHERE ({h_keys}) = ({s_keys}) AND s.n > :after AND s.n <= :upto AND s.present
  AND h.ctid = s.seen AND CAST(CAST(h.xmin AS text) AS bigint) = s.version

-- name: add_suspects
-- Make those that are missing, unless a writer did since.
INSERT INTO tollwatch.{head} ({keys}, {columns})
SELECT {keys}, {columns} FROM pg_temp.suspects s
WHERE s.n > :after AND s.n <= :upto AND s.seen IS NULL
ORDER BY {keys}
ON CONFLICT DO NOTHING

-- name: remove_suspects
-- Take out those that no fact supports, unless a writer moved them since.
DELETE FROM tollwatch.{head} h USING pg_temp.suspects s
WHERE ({h_keys}) = ({s_keys}) AND s.n > :after AND s.n <= :upto AND NOT s.present
  AND h.ctid = s.seen AND CAST(CAST(h.xmin AS text) AS bigint) = s.version

-- name: count_heads
-- How many heads there are.
SELECT count(*) FROM tollwatch.{head}

-- name: lock_prune
-- Where pruning of one table goes on, and how many blocks the table has; holds off other runs.
SELECT block, pg_relation_size(CAST('tollwatch.' || head AS regclass)) / current_setting('block_size')::int AS blocks
FROM tollwatch_internal.prune_state WHERE head = :head FOR UPDATE

-- name: move_prune
-- Where the next run goes on.
UPDATE tollwatch_internal.prune_state SET block = :block WHERE head = :head

-- name: prune_payment_heads
-- Prune payments among some blocks: final ones whose facts have expired, and open ones that nobody spoke of for as long
-- as rollups are kept. Rows that a writer holds are left for the next time.
WITH gone AS (
  SELECT ctid FROM tollwatch.payment_heads
  WHERE ctid >= CAST(:from_tid AS tid) AND ctid < CAST(:to_tid AS tid)
    AND (rank >= 100 AND last_ts < :expired OR last_ts < :bound)
  FOR UPDATE SKIP LOCKED
)
DELETE FROM tollwatch.payment_heads h USING gone WHERE h.ctid = gone.ctid

-- name: prune_payment_settlements
-- Prune settlements among some blocks whose payment has no head any more.
WITH gone AS (
  SELECT s.ctid FROM tollwatch.payment_settlements s
  WHERE s.ctid >= CAST(:from_tid AS tid) AND s.ctid < CAST(:to_tid AS tid)
    AND NOT EXISTS (
      SELECT FROM tollwatch.payment_heads h WHERE (h.project_id, h.payment_id) = (s.project_id, s.payment_id))
  FOR UPDATE OF s SKIP LOCKED
)
DELETE FROM tollwatch.payment_settlements s USING gone WHERE s.ctid = gone.ctid

-- name: prune_queue_heads
-- The same for requests that were put off: those that left the queue, and those that waited longer than any record.
WITH gone AS (
  SELECT ctid FROM tollwatch.queue_heads
  WHERE ctid >= CAST(:from_tid AS tid) AND ctid < CAST(:to_tid AS tid)
    AND (state <> 'queued' AND ts < :expired OR ts < :bound)
  FOR UPDATE SKIP LOCKED
)
DELETE FROM tollwatch.queue_heads h USING gone WHERE h.ctid = gone.ctid
