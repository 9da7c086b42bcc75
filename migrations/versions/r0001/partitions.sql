-- Plain PostgreSQL only: ranges of ts, made ahead, and time_bucket in a schema of its own (in public it would stop
-- CREATE EXTENSION timescaledb from ever working in this database).
CREATE FUNCTION tollwatch_internal.time_bucket(width interval, ts timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN date_bin(width, ts, '2000-01-03 00:00+00'::timestamptz);

-- Makes the partitions of one relation that cover [from_ts, to_ts]. Returns how many were new.
-- Built aside and attached, which does not lock out readers and writers of the parent.
CREATE FUNCTION tollwatch_internal.ensure_partitions(relation text, step interval, from_ts timestamptz, to_ts timestamptz)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  lower_ts timestamptz := tollwatch_internal.time_bucket(step, from_ts);
  name text;
  made integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('tollwatch.partitions'), hashtext(relation));
  WHILE lower_ts <= to_ts LOOP
    name := relation || '_' || to_char(lower_ts AT TIME ZONE 'UTC', 'YYYYMMDD');
    IF to_regclass('tollwatch_internal.' || name) IS NULL THEN
      EXECUTE format('CREATE TABLE tollwatch_internal.%I (LIKE tollwatch.%I INCLUDING ALL)', name, relation);
      EXECUTE format('ALTER TABLE tollwatch.%I ATTACH PARTITION tollwatch_internal.%I FOR VALUES FROM (%L) TO (%L)',
                     relation, name, lower_ts, lower_ts + step);
      made := made + 1;
    END IF;
    lower_ts := lower_ts + step;
  END LOOP;
  RETURN made;
END $$;

SELECT tollwatch_internal.ensure_partitions('balance_samples', '1 day', now() - interval '10 days', now() + interval '14 days');
SELECT tollwatch_internal.ensure_partitions('api_requests', '1 day', now() - interval '10 days', now() + interval '14 days');
SELECT tollwatch_internal.ensure_partitions('payments', '7 days', now() - interval '10 days', now() + interval '14 days');
SELECT tollwatch_internal.ensure_partitions('audit_events', '7 days', now() - interval '10 days', now() + interval '14 days');
SELECT tollwatch_internal.ensure_partitions('queue_events', '1 day', now() - interval '10 days', now() + interval '14 days');
