-- What `tollwatch db explain` asks before it asks for a plan.

-- name: any_project
-- The project that has written most, for plans of reads: its id, and one of its agents.
SELECT p.id AS project_id, (SELECT min(a.id) FROM tollwatch.agents a WHERE a.project_id = p.id) AS agent_id
FROM tollwatch.projects p
LEFT JOIN tollwatch.payment_totals t ON t.project_id = p.id
GROUP BY p.id
ORDER BY coalesce(sum(t.payments), 0) DESC, p.id
LIMIT 1

-- name: volatile_functions
-- Of names that a statement calls, the functions that may do something. Sizes and watermarks are volatile and only look.
SELECT DISTINCT p.proname FROM pg_proc p
WHERE p.proname = ANY (CAST(:names AS text[])) AND p.provolatile = 'v'
  AND p.proname !~ '^(pg_(table|indexes|relation|total_relation|database)_size|cagg_watermark|to_timestamp)$'
ORDER BY 1

-- name: parameter_types
-- What PostgreSQL takes the parameters of a prepared statement for, in their order.
SELECT CAST(parameter_types AS text[]) FROM pg_prepared_statements WHERE name = :name

-- name: time_column
-- The column that bounds a view in time, where it has one: ts or bucket.
SELECT column_name FROM information_schema.columns
WHERE table_schema = :schema AND table_name = :name AND column_name IN ('ts', 'bucket')
  AND data_type = 'timestamp with time zone'
ORDER BY column_name DESC
LIMIT 1
