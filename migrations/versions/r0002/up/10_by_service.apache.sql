-- Rollups by service, whoever paid or asked, for questions about a whole project; and the hours and days of one agent
-- by an index, as they are no longer few among those of thousands.


SET LOCAL statement_timeout = '1h';

CREATE TABLE tollwatch_internal.service_payments_hourly AS -- Payments per hour by service, whoever paid: what a question about the whole project reads. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.payments_hourly
WHERE true
GROUP BY 1, 2, 3, 4, 5, 6 WITH NO DATA;
CREATE INDEX service_payments_hourly_key ON tollwatch_internal.service_payments_hourly (project_id, bucket);
CREATE INDEX service_payments_hourly_bucket ON tollwatch_internal.service_payments_hourly (bucket);
CREATE VIEW tollwatch.service_payments_hourly AS
SELECT * FROM tollwatch_internal.service_payments_hourly WHERE bucket < (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'payments')
UNION ALL
-- Payments per hour by service, whoever paid: what a question about the whole project reads. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.payments_hourly
WHERE bucket >= (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'payments')
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO tollwatch_internal.service_payments_hourly
-- Payments per hour by service, whoever paid: what a question about the whole project reads. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.payments_hourly
WHERE bucket < (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'payments')
GROUP BY 1, 2, 3, 4, 5, 6;

CREATE TABLE tollwatch_internal.service_requests_hourly AS -- Attempts per hour by service, whoever made them. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.requests_hourly
WHERE true
GROUP BY 1, 2, 3, 4 WITH NO DATA;
CREATE INDEX service_requests_hourly_key ON tollwatch_internal.service_requests_hourly (project_id, bucket);
CREATE INDEX service_requests_hourly_bucket ON tollwatch_internal.service_requests_hourly (bucket);
CREATE VIEW tollwatch.service_requests_hourly AS
SELECT * FROM tollwatch_internal.service_requests_hourly WHERE bucket < (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
UNION ALL
-- Attempts per hour by service, whoever made them. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.requests_hourly
WHERE bucket >= (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

INSERT INTO tollwatch_internal.service_requests_hourly
-- Attempts per hour by service, whoever made them. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.requests_hourly
WHERE bucket < (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

CREATE TABLE tollwatch_internal.service_latency_hourly AS -- Latency histogram per hour by service, whoever asked. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.request_latency_hourly
WHERE true
GROUP BY 1, 2, 3, 4 WITH NO DATA;
CREATE INDEX service_latency_hourly_key ON tollwatch_internal.service_latency_hourly (project_id, bucket);
CREATE INDEX service_latency_hourly_bucket ON tollwatch_internal.service_latency_hourly (bucket);
CREATE VIEW tollwatch.service_latency_hourly AS
SELECT * FROM tollwatch_internal.service_latency_hourly WHERE bucket < (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
UNION ALL
-- Latency histogram per hour by service, whoever asked. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.request_latency_hourly
WHERE bucket >= (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

INSERT INTO tollwatch_internal.service_latency_hourly
-- Latency histogram per hour by service, whoever asked. From the hours of all agents.
SELECT
  public.time_bucket(INTERVAL '1 hour', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.request_latency_hourly
WHERE bucket < (SELECT watermark FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

CREATE TABLE tollwatch_internal.service_payments_daily AS -- Payments per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.service_payments_hourly
WHERE true
GROUP BY 1, 2, 3, 4, 5, 6 WITH NO DATA;
CREATE INDEX service_payments_daily_key ON tollwatch_internal.service_payments_daily (project_id, bucket);
CREATE INDEX service_payments_daily_bucket ON tollwatch_internal.service_payments_daily (bucket);
CREATE VIEW tollwatch.service_payments_daily AS
SELECT * FROM tollwatch_internal.service_payments_daily WHERE bucket < (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'payments')
UNION ALL
-- Payments per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.service_payments_hourly
WHERE bucket >= (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'payments')
GROUP BY 1, 2, 3, 4, 5, 6;

INSERT INTO tollwatch_internal.service_payments_daily
-- Payments per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.service_payments_hourly
WHERE bucket < (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'payments')
GROUP BY 1, 2, 3, 4, 5, 6;

CREATE TABLE tollwatch_internal.service_requests_daily AS -- Attempts per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.service_requests_hourly
WHERE true
GROUP BY 1, 2, 3, 4 WITH NO DATA;
CREATE INDEX service_requests_daily_key ON tollwatch_internal.service_requests_daily (project_id, bucket);
CREATE INDEX service_requests_daily_bucket ON tollwatch_internal.service_requests_daily (bucket);
CREATE VIEW tollwatch.service_requests_daily AS
SELECT * FROM tollwatch_internal.service_requests_daily WHERE bucket < (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
UNION ALL
-- Attempts per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.service_requests_hourly
WHERE bucket >= (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

INSERT INTO tollwatch_internal.service_requests_daily
-- Attempts per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, outcome,
  sum(requests)::bigint AS requests,
  sum(retries)::bigint AS retries,
  sum(retry_successes)::bigint AS retry_successes,
  sum(paid)::bigint AS paid,
  sum(latency_ms_sum) AS latency_ms_sum,
  min(latency_ms_min) AS latency_ms_min,
  max(latency_ms_max) AS latency_ms_max,
  sum(backoff_ms_sum) AS backoff_ms_sum,
  sum(response_bytes_sum) AS response_bytes_sum
FROM tollwatch.service_requests_hourly
WHERE bucket < (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

CREATE TABLE tollwatch_internal.service_latency_daily AS -- Latency histogram per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.service_latency_hourly
WHERE true
GROUP BY 1, 2, 3, 4 WITH NO DATA;
CREATE INDEX service_latency_daily_key ON tollwatch_internal.service_latency_daily (project_id, bucket);
CREATE INDEX service_latency_daily_bucket ON tollwatch_internal.service_latency_daily (bucket);
CREATE VIEW tollwatch.service_latency_daily AS
SELECT * FROM tollwatch_internal.service_latency_daily WHERE bucket < (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
UNION ALL
-- Latency histogram per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.service_latency_hourly
WHERE bucket >= (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

INSERT INTO tollwatch_internal.service_latency_daily
-- Latency histogram per day (UTC) by service, from the hours.
SELECT
  public.time_bucket(INTERVAL '1 day', bucket) AS bucket,
  project_id, service, latency_bucket,
  sum(requests)::bigint AS requests
FROM tollwatch.service_latency_hourly
WHERE bucket < (SELECT date_bin('1 day', watermark, '2000-01-03 00:00+00'::timestamptz) FROM tollwatch_internal.rollup_state WHERE relation = 'api_requests')
GROUP BY 1, 2, 3, 4;

CREATE INDEX payments_hourly_agent ON tollwatch_internal.payments_hourly (project_id, agent_id, bucket);

CREATE INDEX requests_hourly_agent ON tollwatch_internal.requests_hourly (project_id, agent_id, bucket);

CREATE INDEX request_latency_hourly_agent ON tollwatch_internal.request_latency_hourly (project_id, agent_id, bucket);

CREATE INDEX balances_hourly_agent ON tollwatch_internal.balances_hourly (project_id, agent_id, bucket);

CREATE INDEX payments_daily_agent ON tollwatch_internal.payments_daily (project_id, agent_id, bucket);

CREATE INDEX requests_daily_agent ON tollwatch_internal.requests_daily (project_id, agent_id, bucket);

CREATE INDEX request_latency_daily_agent ON tollwatch_internal.request_latency_daily (project_id, agent_id, bucket);

CREATE INDEX balances_daily_agent ON tollwatch_internal.balances_daily (project_id, agent_id, bucket);

-- Payments per hour by asset, service, status and origin, whoever paid. Amounts in atomic units; tokens in whole ones.
CREATE VIEW tollwatch_read.service_payments_hourly WITH (security_barrier) AS
SELECT v.bucket, s.symbol AS asset, s.network, v.service, v.status, v.origin, v.payments, v.duplicates, v.amount,
  v.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, v.retry_amount,
  v.retry_amount / 10::numeric ^ coalesce(s.decimals, 0) AS retry_tokens, v.fee_lamports, v.retries
FROM tollwatch.service_payments_hourly v
JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user);
-- Attempts per hour by service and outcome, whoever made them.
CREATE VIEW tollwatch_read.service_requests_hourly WITH (security_barrier) AS
SELECT v.bucket, v.service, v.outcome, v.requests, v.retries, v.retry_successes, v.paid, v.latency_ms_sum,
  v.latency_ms_min, v.latency_ms_max, v.backoff_ms_sum, v.response_bytes_sum
FROM tollwatch.service_requests_hourly v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user);
-- Latency histogram per hour by service, whoever asked: feed latency_bucket and requests to latency_quantile().
CREATE VIEW tollwatch_read.service_latency_hourly WITH (security_barrier) AS
SELECT v.bucket, v.service, v.latency_bucket, v.requests
FROM tollwatch.service_latency_hourly v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user);
-- Payments per day (UTC) by asset, service, status and origin, whoever paid. Amounts in atomic units; tokens in whole ones.
CREATE VIEW tollwatch_read.service_payments_daily WITH (security_barrier) AS
SELECT v.bucket, s.symbol AS asset, s.network, v.service, v.status, v.origin, v.payments, v.duplicates, v.amount,
  v.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, v.retry_amount,
  v.retry_amount / 10::numeric ^ coalesce(s.decimals, 0) AS retry_tokens, v.fee_lamports, v.retries
FROM tollwatch.service_payments_daily v
JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user);
-- Attempts per day (UTC) by service and outcome, whoever made them.
CREATE VIEW tollwatch_read.service_requests_daily WITH (security_barrier) AS
SELECT v.bucket, v.service, v.outcome, v.requests, v.retries, v.retry_successes, v.paid, v.latency_ms_sum,
  v.latency_ms_min, v.latency_ms_max, v.backoff_ms_sum, v.response_bytes_sum
FROM tollwatch.service_requests_daily v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user);
-- Latency histogram per day (UTC) by service, whoever asked: feed latency_bucket and requests to latency_quantile().
CREATE VIEW tollwatch_read.service_latency_daily WITH (security_barrier) AS
SELECT v.bucket, v.service, v.latency_bucket, v.requests
FROM tollwatch.service_latency_daily v
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user);

SET LOCAL statement_timeout = '5s';
