-- Rollups of our own, where there are no continuous aggregates. See docs/architecture.md, Rollups.
-- Append-only: a unique log would lose the row of an insert that is in flight while its bucket is refreshed.
CREATE TABLE tollwatch_internal.rollup_dirty (
  relation text COLLATE "C" NOT NULL,
  bucket timestamptz NOT NULL
);
CREATE INDEX rollup_dirty_idx ON tollwatch_internal.rollup_dirty (relation, bucket);
COMMENT ON TABLE tollwatch_internal.rollup_dirty IS 'Hours that got new rows, one entry per writing statement and hour.';

CREATE TABLE tollwatch_internal.rollup_state (
  relation text COLLATE "C" PRIMARY KEY,
  watermark timestamptz NOT NULL
);
COMMENT ON TABLE tollwatch_internal.rollup_state IS 'Buckets before the watermark are materialised; from it on they are aggregated when read.';
INSERT INTO tollwatch_internal.rollup_state (relation, watermark)
SELECT relation, date_trunc('hour', now(), 'UTC') - interval '1 hour'
FROM unnest(ARRAY['balance_samples', 'payments', 'api_requests', 'audit_events']) AS relation;

CREATE FUNCTION tollwatch_internal.log_dirty() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$
BEGIN
  INSERT INTO tollwatch_internal.rollup_dirty (relation, bucket)
  SELECT DISTINCT TG_TABLE_NAME, date_bin('1 hour', ts, '2000-01-03 00:00+00'::timestamptz) FROM new_rows;
  RETURN NULL;
END $$;

CREATE TRIGGER log_dirty AFTER INSERT ON tollwatch.balance_samples REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION tollwatch_internal.log_dirty();
CREATE TRIGGER log_dirty AFTER INSERT ON tollwatch.payments REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION tollwatch_internal.log_dirty();
CREATE TRIGGER log_dirty AFTER INSERT ON tollwatch.api_requests REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION tollwatch_internal.log_dirty();
CREATE TRIGGER log_dirty AFTER INSERT ON tollwatch.audit_events REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION tollwatch_internal.log_dirty();
