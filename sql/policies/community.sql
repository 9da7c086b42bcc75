-- TimescaleDB's own jobs: rollup refresh, columnstore, retention. Each pair is run again when a horizon changes.

-- name: continuous_aggregates
-- Our continuous aggregates: view_name, and is_refreshed: whether a policy refreshes it.
SELECT c.view_name, EXISTS (
    SELECT FROM timescaledb_information.jobs j
    WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
      AND (j.hypertable_schema, j.hypertable_name) IN ((c.materialization_hypertable_schema, c.materialization_hypertable_name),
        (c.view_schema, c.view_name))
  ) AS is_refreshed
FROM timescaledb_information.continuous_aggregates c
WHERE c.view_schema = 'tollwatch'

-- name: remove_rollup_policy
-- Stop refreshing one continuous aggregate.
SELECT public.remove_continuous_aggregate_policy(CAST(:rollup AS regclass), if_exists => true)

-- name: add_rollup_policy
-- Refresh one continuous aggregate. The end is bounded: an open end would move the watermark past now and hide live rows.
-- Oldest first: each batch commits and moves the watermark, and newest first would hide the hours not made yet.
SELECT public.add_continuous_aggregate_policy(CAST(:rollup AS regclass),
  start_offset => CAST(:start_offset AS interval), end_offset => CAST(:end_offset AS interval),
  schedule_interval => CAST(:schedule AS interval), refresh_newest_first => false)

-- name: remove_columnstore_policy
-- Stop turning chunks of one relation into columnstore.
CALL public.remove_columnstore_policy(CAST(:relation AS regclass), if_exists => true)

-- name: add_columnstore_policy
-- Turn chunks of one relation into columnstore after the hot window.
CALL public.add_columnstore_policy(CAST(:relation AS regclass), after => CAST(:after AS interval))

-- name: remove_retention_policy
-- Stop dropping chunks of one relation.
SELECT public.remove_retention_policy(CAST(:relation AS regclass), if_exists => true)

-- name: add_retention_policy
-- Drop chunks of one relation when all their rows are older than that.
SELECT public.add_retention_policy(CAST(:relation AS regclass), drop_after => CAST(:drop_after AS interval))
