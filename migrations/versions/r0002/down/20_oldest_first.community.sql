SELECT public.alter_job(j.job_id, config => j.config - 'refresh_newest_first')
FROM timescaledb_information.jobs j
JOIN timescaledb_information.continuous_aggregates c
  ON (c.materialization_hypertable_schema, c.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name)
  OR (c.view_schema, c.view_name) = (j.hypertable_schema, j.hypertable_name)
WHERE j.proc_name = 'policy_refresh_continuous_aggregate' AND c.view_schema = 'tollwatch';
