-- The rows of own rollups. Names of rollups are ours (store.horizons), never a caller's.

-- name: forget_bucket
-- Take one bucket's rows out, before they are made again.
DELETE FROM tollwatch_internal.{rollup} WHERE bucket = :bucket

-- name: make_bucket
-- Aggregate one bucket from the facts.
INSERT INTO tollwatch_internal.{rollup} {select}

-- name: expire_buckets
-- Drop rollup rows past their retention.
DELETE FROM tollwatch_internal.{rollup} WHERE bucket < :before
