-- Which statements take the database's time: pg_stat_statements, where the server has it.

-- name: statistics_offer
-- What the server says of pg_stat_statements: schema (NULL: not created in this database), is_loaded, is_available, and
-- whether this role sees everyone's statements.
SELECT (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements') AS schema,
  EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max') AS is_loaded,
  EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS is_available,
  pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all

-- name: slow_statements
-- Statements of this database that took the most time in all, ours summed by name. {schema} is where the extension is.
SELECT t.name, min(t.text) AS text, CAST(sum(t.calls) AS bigint) AS calls, sum(t.total_ms) AS total_ms,
  sum(t.total_ms) / sum(t.calls) AS mean_ms, max(t.max_ms) AS max_ms, CAST(sum(t.rows) AS bigint) AS rows,
  sum(t.total_ms) / nullif(sum(sum(t.total_ms)) OVER (), 0) AS share
FROM (
  SELECT substring(s.query FROM '/\* tollwatch\.(\w+) \*/') AS name, s.queryid,
    left(regexp_replace(s.query, '\s+', ' ', 'g'), 200) AS text,
    s.calls, s.total_exec_time AS total_ms, s.max_exec_time AS max_ms, s.rows
  FROM {schema}.pg_stat_statements s
  WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.toplevel AND s.calls > 0
) t
GROUP BY t.name, CASE WHEN t.name IS NULL THEN t.queryid END
ORDER BY total_ms DESC
LIMIT :limit
