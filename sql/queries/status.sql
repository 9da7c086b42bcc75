-- What `tollwatch db status` tells. Nothing here counts or reads facts but those of one partition at a time, or of a
-- relation that is small: the cost is bounded by the number of partitions, whatever they hold.

-- name: record_job_run
-- The newest run of one job of the collector. A success leaves the last failure where it is.
INSERT INTO tollwatch.job_runs AS r (job, started_at, ended_at, next_at, outcome, succeeded_at, failed_at, failure)
SELECT n.job, n.started_at, n.ended_at, n.next_at, n.outcome, CASE WHEN n.outcome = 'ok' THEN n.ended_at END,
  CASE WHEN n.outcome <> 'ok' THEN n.ended_at END, CASE WHEN n.outcome <> 'ok' THEN n.failure END
FROM (SELECT CAST(:job AS text) AS job, CAST(:started_at AS timestamptz) AS started_at,
        CAST(:ended_at AS timestamptz) AS ended_at, CAST(:next_at AS timestamptz) AS next_at,
        CAST(:outcome AS text) AS outcome, CAST(:failure AS text) AS failure) n
ON CONFLICT (job) DO UPDATE
SET started_at = excluded.started_at, ended_at = excluded.ended_at, next_at = excluded.next_at,
  outcome = excluded.outcome, succeeded_at = coalesce(excluded.succeeded_at, r.succeeded_at),
  failed_at = coalesce(excluded.failed_at, r.failed_at),
  failure = CASE WHEN excluded.failed_at IS NULL THEN r.failure ELSE excluded.failure END

-- name: status_job_runs
-- How the collector's jobs ended last.
SELECT job, ended_at, next_at, outcome, succeeded_at, failed_at, failure FROM tollwatch.job_runs ORDER BY job

-- name: status_native_jobs
-- TimescaleDB's jobs on our relations and rollups: when they ran, run next, and what the newest failure was.
SELECT j.job_id, j.proc_name, j.hypertable_name AS relation, j.scheduled, t.last_run_started_at, t.last_run_status,
  CASE WHEN isfinite(t.last_successful_finish) THEN t.last_successful_finish END AS succeeded_at,
  CASE WHEN isfinite(t.next_start) THEN t.next_start END AS next_at,
  e.finish_time AS failed_at, coalesce(e.err_message, 'the job ended without a message') AS failure
FROM timescaledb_information.jobs j
LEFT JOIN timescaledb_information.job_stats t USING (job_id)
LEFT JOIN LATERAL (
  SELECT f.finish_time, f.err_message
  FROM timescaledb_information.job_errors f
  WHERE f.job_id = j.job_id
  ORDER BY f.start_time DESC
  LIMIT 1
) e ON true
WHERE j.hypertable_schema = 'tollwatch'
ORDER BY j.hypertable_name, j.proc_name, j.job_id

-- name: status_table
-- One table that has no partitions: a rollup of our own. Returns as status_partitions does.
SELECT CAST(c.oid AS bigint) AS oid, c.oid::regclass::text AS name
FROM pg_class c
WHERE c.oid = to_regclass(:relation)

-- name: status_partitions
-- Partitions of one relation (plain), oldest first: oid, and the name as SQL writes it.
SELECT CAST(c.oid AS bigint) AS oid, c.oid::regclass::text AS name
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(:relation) AND NOT i.inhdetachpending
ORDER BY CAST(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''([^'']+)''\)') AS timestamptz)

-- name: status_chunks
-- Chunks of one hypertable, oldest first: oid, and the name as SQL writes it.
SELECT CAST(c.oid AS bigint) AS oid, c.oid::regclass::text AS name
FROM timescaledb_information.chunks k
JOIN pg_class c ON c.oid = format('%I.%I', k.chunk_schema, k.chunk_name)::regclass
WHERE k.hypertable_schema = :schema AND k.hypertable_name = :name
ORDER BY k.range_start

-- name: status_sizes
-- Sizes of tables by oid, and an estimate of their rows: what PostgreSQL counted since its statistics began, or what it
-- saw at the last analyze. main_bytes 0: no row was ever here, or all of them are in columnstore.
SELECT CAST(c.oid AS bigint) AS oid, pg_table_size(c.oid) AS heap_bytes, pg_indexes_size(c.oid) AS index_bytes,
  pg_relation_size(c.oid) AS main_bytes, pg_stat_get_live_tuples(c.oid) AS counted,
  CAST(greatest(c.reltuples, 0) AS bigint) AS analyzed
FROM pg_class c
WHERE c.oid = ANY (CAST(:oids AS oid[]))

-- name: status_columnstore
-- Of chunks by oid, those in columnstore: bytes, and how many rows they took when they were made.
SELECT CAST(CAST(s.relid AS oid) AS bigint) AS oid, pg_total_relation_size(s.compress_relid) AS columnstore_bytes,
  coalesce(z.numrows_pre_compression, 0) AS columnstore_rows
FROM _timescaledb_catalog.compression_settings s
JOIN _timescaledb_catalog.chunk k ON k.relid = s.relid
LEFT JOIN _timescaledb_catalog.compression_chunk_size z ON z.chunk_id = k.id
WHERE s.compress_relid IS NOT NULL AND CAST(s.relid AS oid) = ANY (CAST(:oids AS oid[]))

-- name: status_rows
-- Every row of a relation, counted: asked only where its tables are small.
SELECT count(*) FROM {table}

-- name: status_extremes
-- Oldest and newest time of one partition.
SELECT min({time}) AS oldest, max({time}) AS newest FROM {table}

-- name: status_own_rollups
-- Watermark of each relation's own rollups, and how many of its hours below it are dirty. The log is walked from one hour
-- to the next, because it has an entry per writing statement.
SELECT s.relation, s.watermark, (
  WITH RECURSIVE hours AS (
    SELECT min(d.bucket) AS bucket FROM tollwatch_internal.rollup_dirty d
    WHERE d.relation = s.relation AND d.bucket < s.watermark
    UNION ALL
    SELECT (SELECT min(d.bucket) FROM tollwatch_internal.rollup_dirty d
            WHERE d.relation = s.relation AND d.bucket > h.bucket AND d.bucket < s.watermark)
    FROM hours h
    WHERE h.bucket IS NOT NULL
  )
  SELECT coalesce(array_agg(bucket ORDER BY bucket) FILTER (WHERE bucket IS NOT NULL), '{}') FROM hours
) AS dirty
FROM tollwatch_internal.rollup_state s

-- name: status_continuous
-- The same of continuous aggregates: the hypertable that holds each, its watermark (NULL: never refreshed), and how many
-- of its buckets below it changed since. The logs hold ranges; those of one aggregate are merged before they are counted.
SELECT c.user_view_name AS rollup, h.schema_name AS schema, h.table_name AS name,
  CASE WHEN w.mark > -210866803200000000 THEN _timescaledb_functions.to_timestamp(w.mark) END AS watermark,
  coalesce((
    SELECT sum((upper(r.part) - 1) / b.width - lower(r.part) / b.width + 1)
    FROM (
      SELECT unnest(range_agg(int8range(l.lowest, least(l.greatest, w.mark - 1), '[]'))) AS part
      FROM (
        SELECT lowest_modified_value AS lowest, greatest_modified_value AS greatest
        FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log
        WHERE hypertable_id = c.raw_hypertable_id
        UNION ALL
        SELECT lowest_modified_value, greatest_modified_value
        FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log
        WHERE materialization_id = c.mat_hypertable_id
      ) l
      WHERE l.lowest > -210866803200000000 AND l.lowest < w.mark
    ) r
  ), 0)::bigint AS dirty
FROM _timescaledb_catalog.continuous_agg c
JOIN _timescaledb_catalog.hypertable h ON h.id = c.mat_hypertable_id
CROSS JOIN LATERAL (SELECT _timescaledb_functions.cagg_watermark(c.mat_hypertable_id) AS mark) w
CROSS JOIN LATERAL (
  SELECT CASE WHEN c.user_view_name LIKE '%\_daily' THEN 86400000000 ELSE 3600000000 END AS width
) b
WHERE c.user_view_schema = 'tollwatch'

-- name: status_database
-- The database: its name, its size, what its server is.
SELECT current_database() AS name, pg_database_size(current_database()) AS bytes,
  current_setting('server_version') AS postgres,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb
