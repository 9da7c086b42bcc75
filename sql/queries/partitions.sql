-- Partitions: made ahead and dropped by us on plain PostgreSQL, by drop_chunks on the Apache edition.

-- name: ensure_partitions
-- Make the partitions of one relation that cover a range (plain). Returns how many were new.
SELECT tollwatch_internal.ensure_partitions(:relation, CAST(:step AS interval), :from_ts, :to_ts)

-- name: partitions_of
-- Partitions of one relation (plain): name, and the upper bound of its range.
SELECT c.relname AS name,
  CAST(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)') AS timestamptz) AS upper_ts
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('tollwatch.' || CAST(:relation AS text)) AND NOT i.inhdetachpending
ORDER BY 2

-- name: half_detached
-- Partitions that a detach was interrupted on (plain).
SELECT c.relname AS name
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('tollwatch.' || CAST(:relation AS text)) AND i.inhdetachpending

-- name: orphaned_partitions
-- Tables that were detached and not dropped yet (plain).
SELECT c.relname AS name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'tollwatch_internal'
WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relname ~ ('^' || :relation || '_[0-9]{8}$')

-- name: drop_chunks
-- Drop chunks of one relation whose rows are all older than that (Apache edition). Returns their names.
SELECT public.drop_chunks(CAST(:relation AS regclass), older_than => CAST(:before AS timestamptz))
