-- The newest run of each job of the collector, for `tollwatch db status`: its metrics end with the process.
CREATE TABLE tollwatch.job_runs (
  job text COLLATE "C" NOT NULL,
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL,
  next_at timestamptz NOT NULL,
  outcome text COLLATE "C" NOT NULL,
  succeeded_at timestamptz,
  failed_at timestamptz,
  failure text,
  CONSTRAINT job_runs_pkey PRIMARY KEY (job),
  CONSTRAINT job_runs_outcome_check CHECK (outcome IN ('ok', 'failed', 'timeout'))
);
COMMENT ON TABLE tollwatch.job_runs IS 'The newest run of each job of the collector; failure: of the newest that failed, at failed_at.';
