-- The server behind the database: read with every snapshot of the exporter, so nothing here looks at more than a session or
-- a job each.

-- name: server_figures
-- Sessions of the server and how many it allows, age of the oldest transaction (of sessions that this role may look into),
-- and what went wrong in this database since its statistics began.
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
  CAST(current_setting('max_connections') AS int) AS max_connections,
  coalesce((SELECT extract(epoch FROM clock_timestamp() - min(a.xact_start)) FROM pg_stat_activity a
            WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()), 0)::float8 AS oldest_transaction_s,
  d.deadlocks, d.temp_bytes
FROM pg_stat_database d
WHERE d.datname = current_database()

-- name: database_bytes
-- Size of this database on disk; looks at every file.
SELECT pg_database_size(current_database())

-- name: partition_headroom
-- Of every relation (plain), how long from now on each moment has its partition: to the first gap, negative where there is
-- none even now.
WITH ranges AS (
  SELECT CAST(i.inhparent::regclass AS text) AS parent,
    CAST(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''([^'']+)''\)') AS timestamptz) AS lower_ts,
    CAST(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)') AS timestamptz) AS upper_ts
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = ANY (SELECT CAST(to_regclass('tollwatch.' || r.name) AS oid)
                           FROM unnest(CAST(:relations AS text[])) AS r (name))
    AND NOT i.inhdetachpending
), ends AS (
  SELECT parent, upper_ts, lead(lower_ts) OVER (PARTITION BY parent ORDER BY lower_ts) IS DISTINCT FROM upper_ts AS is_last
  FROM ranges
)
SELECT r.name AS relation, CAST(extract(epoch FROM coalesce(CASE
    WHEN EXISTS (SELECT FROM ranges g WHERE g.parent = 'tollwatch.' || r.name AND g.lower_ts <= now() AND g.upper_ts > now())
    THEN (SELECT min(e.upper_ts) FROM ends e WHERE e.parent = 'tollwatch.' || r.name AND e.is_last AND e.upper_ts > now())
    ELSE (SELECT max(e.upper_ts) FROM ends e WHERE e.parent = 'tollwatch.' || r.name AND e.upper_ts <= now())
  END, now()) - now()) AS float8) AS headroom_s
FROM unnest(CAST(:relations AS text[])) AS r (name)

-- name: server_settings
-- What the server was told that matters to us; NULL where it does not know the setting.
SELECT current_setting('fsync') = 'on' AS fsync, current_setting('full_page_writes') = 'on' AS full_page_writes,
  current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
  CAST(current_setting('max_worker_processes') AS int) AS max_worker_processes,
  CAST(current_setting('max_parallel_workers') AS int) AS max_parallel_workers,
  CAST(current_setting('timescaledb.max_background_workers', true) AS int) AS background_workers,
  current_setting('timescaledb.restoring', true) = 'on' AS is_restoring

-- name: native_jobs
-- TimescaleDB's jobs on our relations and rollups, how each is: ok, failing, paused or overdue (10 minutes and more).
SELECT CASE WHEN NOT j.scheduled THEN 'paused'
    WHEN t.last_run_status = 'Failed' THEN 'failing'
    WHEN t.job_status IS DISTINCT FROM 'Running'
      AND coalesce(CASE WHEN isfinite(t.next_start) THEN t.next_start END, j.initial_start, i.updated_at)
        < now() - INTERVAL '10 minutes' THEN 'overdue'
    ELSE 'ok' END AS state,
  count(*) AS jobs
FROM timescaledb_information.jobs j
LEFT JOIN timescaledb_information.job_stats t USING (job_id)
CROSS JOIN tollwatch.schema_info i
WHERE j.hypertable_schema = 'tollwatch'
GROUP BY 1
