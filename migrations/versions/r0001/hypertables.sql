-- TimescaleDB, both licences: the one DDL form that works on both.
SELECT public.create_hypertable('tollwatch.balance_samples', public.by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
SELECT public.create_hypertable('tollwatch.api_requests', public.by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
SELECT public.create_hypertable('tollwatch.payments', public.by_range('ts', INTERVAL '7 days'), create_default_indexes => false);
SELECT public.create_hypertable('tollwatch.audit_events', public.by_range('ts', INTERVAL '7 days'), create_default_indexes => false);
SELECT public.create_hypertable('tollwatch.queue_events', public.by_range('ts', INTERVAL '1 day'), create_default_indexes => false);
