-- The rows of own rollups. Names of rollups are ours (store.horizons), never a caller's.

-- name: forget_buckets
-- Take the rows of buckets [from_ts, to_ts) out, before they are made again.
DELETE FROM tollwatch_internal.{rollup} WHERE bucket >= :from_ts AND bucket < :to_ts

-- name: make_buckets
-- Aggregate buckets [from_ts, to_ts) from the facts, or from the hours.
INSERT INTO tollwatch_internal.{rollup} {select}

-- name: expire_buckets
-- Drop rollup rows past their retention.
DELETE FROM tollwatch_internal.{rollup} WHERE bucket < :before
