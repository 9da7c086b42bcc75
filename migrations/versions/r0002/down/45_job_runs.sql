DROP TABLE tollwatch.job_runs;
