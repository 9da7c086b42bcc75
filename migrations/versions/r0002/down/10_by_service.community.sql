-- The rollups by service go; those by agent lose their second index.
DROP VIEW tollwatch_read.service_payments_hourly;
DROP VIEW tollwatch_read.service_requests_hourly;
DROP VIEW tollwatch_read.service_latency_hourly;
DROP VIEW tollwatch_read.service_payments_daily;
DROP VIEW tollwatch_read.service_requests_daily;
DROP VIEW tollwatch_read.service_latency_daily;
DROP MATERIALIZED VIEW tollwatch.service_payments_daily;
DROP MATERIALIZED VIEW tollwatch.service_requests_daily;
DROP MATERIALIZED VIEW tollwatch.service_latency_daily;
DROP MATERIALIZED VIEW tollwatch.service_payments_hourly;
DROP MATERIALIZED VIEW tollwatch.service_requests_hourly;
DROP MATERIALIZED VIEW tollwatch.service_latency_hourly;
DROP INDEX _timescaledb_internal.payments_hourly_agent;
DROP INDEX _timescaledb_internal.requests_hourly_agent;
DROP INDEX _timescaledb_internal.request_latency_hourly_agent;
DROP INDEX _timescaledb_internal.payments_daily_agent;
DROP INDEX _timescaledb_internal.requests_daily_agent;
DROP INDEX _timescaledb_internal.request_latency_daily_agent;
