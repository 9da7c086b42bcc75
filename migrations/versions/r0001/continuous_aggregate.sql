-- One continuous aggregate, real-time. Filled by its policy: a refresh cannot run inside a migration's transaction.
CREATE MATERIALIZED VIEW tollwatch.{rollup}
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
{select}
WITH NO DATA;
CREATE INDEX {rollup}_key ON tollwatch.{rollup} (project_id, bucket);
