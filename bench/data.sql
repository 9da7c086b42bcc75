-- The data of bench/queries.py and bench/storage.py, made inside the server. All of it follows from row numbers and the
-- seed, so it is the same every time but for the instant at which its 30 days end.
--
-- Requests are numbered 0, 1, …: of 17, fifteen have one attempt, one has two and one has three (20 attempts). Ten of the 17
-- are paid; of ten payments eight have two transitions (pending, conclusion), one has three (a facilitator repeats it) and
-- one has one (20 transitions). Agents have three services each; the busy ones have many times the requests of the quiet.

-- name: make_schema
-- Where the benches keep their functions, their price list and what they made.
CREATE SCHEMA IF NOT EXISTS bench

-- name: make_made
-- What the data in this database was made as.
CREATE TABLE IF NOT EXISTS bench.made (
  recipe text NOT NULL, start_ts timestamptz NOT NULL, end_ts timestamptz NOT NULL, complete boolean NOT NULL
)

-- name: made
-- What the data in this database was made as. Returns recipe, start_ts, end_ts.
SELECT recipe, start_ts, end_ts FROM bench.made WHERE complete

-- name: forget_made
-- There is nothing yet.
DELETE FROM bench.made

-- name: remember_made
-- The data is complete.
INSERT INTO bench.made (recipe, start_ts, end_ts, complete) VALUES (:recipe, :start_ts, :end_ts, true)

-- name: make_hash
-- 64 bits that follow from a number, what they are for, and the seed.
CREATE OR REPLACE FUNCTION bench.h(n bigint, purpose int) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
RETURN hashint8extended(n, {seed} * 1000::bigint + purpose)

-- name: make_uniform
-- The same as a number between 0 and 1.
CREATE OR REPLACE FUNCTION bench.u(n bigint, purpose int) RETURNS float8 LANGUAGE sql STABLE PARALLEL SAFE
RETURN ((hashint8extended(n, {seed} * 1000::bigint + purpose) & 9007199254740991) + 0.5) / 9007199254740992.0

-- name: make_v7
-- A UUIDv7: the milliseconds of ts and 74 bits that follow from a number.
CREATE OR REPLACE FUNCTION bench.v7(ts timestamptz, n bigint, purpose int) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST(encode(substring(int8send(CAST(extract(epoch FROM ts) * 1000 AS bigint)) FROM 3)
  || substring(int4send(CAST((bench.h(n, purpose) & 4095) | 28672 AS int)) FROM 3)
  || int8send((bench.h(n, purpose + 1) & 4611686018427387903) | (-9223372036854775807 - 1)), 'hex') AS uuid)

-- name: make_asked_at
-- When request q is made: evenly over the range, within the time of 30 requests.
CREATE OR REPLACE FUNCTION bench.asked_at(q bigint) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_timestamp({start_s} + floor(({seconds} - 20) * 1000.0 * (q + 30 * bench.u(q, 1)) / ({requests} + 30)) / 1000)

-- name: make_agent_of
-- Who makes request q (0 to {agents} - 1): the busiest tenth makes a fifth of them.
CREATE OR REPLACE FUNCTION bench.agent_of(q bigint) RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST(floor({agents} * power(bench.u(q, 2), 1.4)) AS int)

-- name: make_resource_of
-- What request q asks for (0 to 199): one of four resources at one of its agent's three services.
CREATE OR REPLACE FUNCTION bench.resource_of(q bigint, agent int) RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
RETURN (agent * 7 + (ARRAY[0, 0, 0, 17, 17, 31])[1 + (bench.h(q, 3) & 1023) * 6 / 1024]) % 50 * 4
  + CAST(bench.h(q, 4) & 3 AS int)

-- name: make_recorded
-- When a fact was recorded: agents send what they have every five seconds, each in its own transaction.
CREATE OR REPLACE FUNCTION bench.recorded(ts timestamptz, agent int) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_timestamp(5 * ceil(extract(epoch FROM ts) / 5)
  + (bench.h(CAST(ceil(extract(epoch FROM ts) / 5) AS bigint) * 10000 + agent, 5) & 1048575) / 1e6)

-- name: make_project
-- The benches' project. Returns id.
INSERT INTO tollwatch.projects (name) VALUES (:project) RETURNING id

-- name: make_agents
-- Agents 0 to :agents - 1. Returns the first id.
WITH made AS (
  INSERT INTO tollwatch.agents (project_id, name, autonomy_phase, network, max_retries)
  SELECT :project_id, 'agent-' || lpad(CAST(a AS text), 4, '0'), 'full', :network, 3
  FROM generate_series(0, CAST(:agents AS int) - 1) AS a ORDER BY a
  RETURNING id
)
SELECT min(id) FROM made

-- name: make_wallets
-- One registered wallet for each agent. Returns the first id.
WITH made AS (
  INSERT INTO tollwatch.wallets (project_id, agent_id, network, address, address_text, registered)
  SELECT :project_id, id, :network, sha256(int8send(bench.h(id, 6))), tollwatch_read.base58(sha256(int8send(bench.h(id, 6)))),
    true
  FROM tollwatch.agents WHERE project_id = :project_id ORDER BY id
  RETURNING id
)
SELECT min(id) FROM made

-- name: make_thresholds
-- A threshold of 7 tokens for each wallet.
INSERT INTO tollwatch.wallet_thresholds (wallet_id, asset_id, amount)
SELECT w.id, s.id, 7000000
FROM tollwatch.wallets w
JOIN tollwatch.assets s ON s.symbol = CASE w.agent_id % 4 WHEN 0 THEN 'CASH' ELSE 'USDC' END AND s.network = w.network
WHERE w.project_id = :project_id

-- name: drop_resources
-- The price list of before.
DROP TABLE IF EXISTS bench.resources

-- name: make_resources
-- The price list: 50 services with four resources each, their prices and their terms.
CREATE TABLE bench.resources AS
SELECT n AS item, service, service || '/v1/items/' || n % 4 AS resource, price, pay_to, 'items' AS endpoint_type,
  jsonb_build_object('x402Version', 2, 'resource', jsonb_build_object('url', service || '/v1/items/' || n % 4,
    'description', 'Item ' || n % 4, 'mimeType', 'application/json'), 'accepts', jsonb_build_array(jsonb_build_object(
    'scheme', 'exact', 'network', '{network}', 'asset', 'EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v',
    'amount', CAST(price AS text), 'payTo', tollwatch_read.base58(pay_to), 'maxTimeoutSeconds', 60,
    'extra', jsonb_build_object('feePayer', tollwatch_read.base58(sha256('facilitator')))))) AS terms
FROM generate_series(0, 199) AS n
CROSS JOIN LATERAL (
  SELECT 'https://service-' || lpad(CAST(n / 4 AS text), 2, '0') || '.example' AS service,
    (1 + n / 4 * 37 % 40) * 500 * (1 + n % 4) AS price, sha256(int4send(n / 4)) AS pay_to
) of

-- name: make_sessions
-- Every third agent renews its wallet session each day.
INSERT INTO tollwatch.wallet_sessions (project_id, id, agent_id, wallet_id, token_hash, scope, tx_used, status, delegated_at,
  expires_at, created_at)
SELECT :project_id, bench.v7(day, a, 7), CAST(:agent0 AS int) + a, CAST(:wallet0 AS int) + a,
  sha256(int8send(a * 1000 + CAST(extract(epoch FROM day) / 86400 AS bigint))), '{"tx_limit": 1000, "duration_s": 86400}', 100,
  CASE WHEN day + INTERVAL '1 day' > CAST(:end_ts AS timestamptz) THEN 'active' ELSE 'expired' END, day,
  day + INTERVAL '1 day', day
FROM generate_series(0, CAST(:agents AS bigint) - 1, 3) AS a
CROSS JOIN generate_series(date_trunc('day', CAST(:start_ts AS timestamptz), 'UTC'), :end_ts, INTERVAL '1 day') AS day

-- name: make_api_requests
-- Attempts [from_n, to_n). :digests is the share of the answered ones that say what the answer's SHA-256 is.
INSERT INTO tollwatch.api_requests (project_id, ts, id, request_id, attempt, max_retries, agent_id, wallet_id, session_id, service,
  endpoint_type, resource, method, response_status, x402_version, payment_required, payment_id, paid, latency_ms, backoff_ms,
  component, breaker_state, outcome, error_type, failure_reason, response_digest, response_bytes, data_as_of, origin,
  recorded_at)
SELECT :project_id, ts, bench.v7(ts, n, 10), bench.v7(asked_at, q, 20), attempt, 3, CAST(:agent0 AS int) + agent,
  CAST(:wallet0 AS int) + agent,
  CASE WHEN agent % 3 = 0 THEN bench.v7(date_trunc('day', asked_at, 'UTC'), agent, 7) END, o.service, o.endpoint_type,
  o.resource, 'GET',
  CASE outcome WHEN 'ok' THEN 200 WHEN 'skipped_open' THEN NULL WHEN 'failed' THEN 402 ELSE 503 END,
  CASE WHEN outcome <> 'skipped_open' THEN 2 END, CASE WHEN outcome <> 'skipped_open' THEN o.terms END,
  CASE WHEN is_paid AND is_last THEN bench.v7(asked_at, q, 30) END, is_paid AND outcome = 'ok',
  CASE WHEN outcome <> 'skipped_open' THEN
    greatest(1, round(exp(5.3 + 0.6 * sqrt(-2 * ln(bench.u(n, 12))) * cos(2 * pi() * bench.u(n, 13))))) END,
  (attempt - 1) * 500, 'service-' || o.item / 4, CASE outcome WHEN 'skipped_open' THEN 'open' ELSE 'closed' END, outcome,
  CASE outcome WHEN 'retrying' THEN 'upstream_error' WHEN 'failed' THEN 'rejected' END,
  CASE outcome WHEN 'retrying' THEN 'HTTP 503' WHEN 'failed' THEN 'invalid_exact_svm_payload_amount_insufficient' END,
  CASE WHEN outcome = 'ok' AND bench.u(n, 14) < :digests THEN sha256(int8send(bench.h(n, 15))) END,
  CASE WHEN outcome = 'ok' THEN 900 + o.item % 4 * 200 + (bench.h(n, 16) & 31) END,
  CASE WHEN outcome = 'ok' THEN date_trunc('minute', ts) END, 'agent', bench.recorded(ts, agent)
FROM (
  SELECT m.*, asked_at + (attempt - 1) * INTERVAL '700 ms' AS ts,
    CASE WHEN NOT is_last THEN 'retrying'
         WHEN NOT is_paid AND luck < 0.01 THEN 'skipped_open'
         WHEN luck < 0.045 THEN 'failed' ELSE 'ok' END AS outcome
  FROM (
    SELECT k.*, bench.asked_at(q) AS asked_at, bench.agent_of(q) AS agent, bench.u(q, 8) AS luck,
      (q * 10 + 16) / 17 * 17 / 10 = q AS is_paid, (n % 20 < 15 OR n % 20 IN (16, 19)) AS is_last
    FROM (
      SELECT n, n / 20 * 17 + CASE WHEN n % 20 < 15 THEN n % 20 WHEN n % 20 < 17 THEN 15 ELSE 16 END AS q,
        CASE WHEN n % 20 < 15 THEN 1 WHEN n % 20 < 17 THEN n % 20 - 14 ELSE n % 20 - 16 END AS attempt
      FROM generate_series(CAST(:from_n AS bigint), CAST(:to_n AS bigint) - 1) AS n
      OFFSET 0
    ) k
    OFFSET 0
  ) m
  OFFSET 0
) a
JOIN bench.resources o ON o.item = bench.resource_of(q, agent)
ORDER BY ts

-- name: make_payments
-- Transitions [from_n, to_n). What became of a payment that nobody heard of again is known from the chain within six hours.
INSERT INTO tollwatch.payments (project_id, ts, id, payment_id, request_id, agent_id, wallet_id, session_id, status, amount,
  asset_id, pay_to, service, resource, facilitator, signature, slot, commitment, fee_lamports, retry_count, backoff_ms,
  is_duplicate, error_type, failure_reason, origin, recorded_at)
SELECT :project_id, ts, bench.v7(ts, n, 40), bench.v7(asked_at, q, 30), bench.v7(asked_at, q, 20), CAST(:agent0 AS int) + agent,
  CAST(:wallet0 AS int) + agent,
  CASE WHEN agent % 3 = 0 THEN bench.v7(date_trunc('day', asked_at, 'UTC'), agent, 7) END, status, o.price,
  CASE (CAST(:agent0 AS int) + agent) % 4 WHEN 0 THEN CAST(:cash AS int) ELSE CAST(:usdc AS int) END, o.pay_to, o.service, o.resource,
  'https://facilitator.example', CASE WHEN status IN ('settled', 'unknown') THEN sha512(int8send(bench.h(q, 41))) END,
  CASE WHEN origin = 'chain' THEN CAST(extract(epoch FROM ts) * 2.5 AS bigint) END,
  CASE WHEN status = 'settled' THEN 'confirmed' END, CASE WHEN origin = 'chain' THEN 5000 END,
  CASE q % 17 WHEN 15 THEN 1 WHEN 16 THEN 2 ELSE 0 END, CASE q % 17 WHEN 15 THEN 500 WHEN 16 THEN 1000 ELSE 0 END,
  step = 2, CASE WHEN status = 'failed' THEN 'rejected' WHEN status = 'unknown' THEN 'timeout' END,
  CASE WHEN status = 'failed' THEN 'invalid_exact_svm_payload_amount_insufficient' END, origin, bench.recorded(ts, agent)
FROM (
  SELECT m.*, CASE WHEN step = 0 THEN 'pending' WHEN is_failed THEN 'failed' WHEN is_open THEN 'unknown' ELSE 'settled' END AS status,
    CASE WHEN step = 2 THEN 'facilitator' WHEN step = 1 AND is_lost AND NOT is_open AND NOT is_failed THEN 'chain'
         ELSE 'agent' END AS origin,
    asked_at + INTERVAL '150 ms' + step * (200 + (bench.h(q, 42) & 1023)) * INTERVAL '1 ms' AS ts
  FROM (
    SELECT l.*, step > 0 AND luck < 0.045 AS is_failed,
      is_lost AND asked_at > CAST(:end_ts AS timestamptz) - INTERVAL '6 hours' AS is_open
    FROM (
      SELECT k.*, bench.asked_at(q) AS asked_at, bench.agent_of(q) AS agent, bench.u(q, 8) AS luck,
        n % 20 < 16 AND bench.u(q, 43) < 0.01 AS is_lost
      FROM (
        SELECT n, CASE WHEN n % 20 < 16 THEN n % 2 WHEN n % 20 < 19 THEN n % 20 - 16 ELSE 1 END AS step,
          (n / 20 * 10 + CASE WHEN n % 20 < 16 THEN n % 20 / 2 WHEN n % 20 < 19 THEN 8 ELSE 9 END) * 17 / 10 AS q
        FROM generate_series(CAST(:from_n AS bigint), CAST(:to_n AS bigint) - 1) AS n
        OFFSET 0
      ) k
      OFFSET 0
    ) l
    OFFSET 0
  ) m
  OFFSET 0
) p
JOIN bench.resources o ON o.item = bench.resource_of(q, agent)
ORDER BY ts

-- name: make_balance_samples
-- Ticks [from_n, to_n): one sample of each wallet at each, :step_ms apart. A wallet is spent from at its own pace and topped up.
INSERT INTO tollwatch.balance_samples (project_id, wallet_id, asset_id, ts, agent_id, amount, slot, commitment, threshold, status,
  change, origin, recorded_at)
SELECT :project_id, CAST(:wallet0 AS int) + a, asset_id, ts, CAST(:agent0 AS int) + a, amount,
  CAST(extract(epoch FROM ts) * 2.5 AS bigint) + (bench.h(n * 100 + a / 100, 50) & 3), 'confirmed', 7000000,
  CASE WHEN amount < 7000000 THEN 'low' ELSE 'sufficient' END, CASE WHEN n > 0 THEN amount - amount_before END, 'collector',
  ts + ((bench.h(n * 100 + a / 100, 51) & 262143) + 100000) * INTERVAL '1 microsecond'
FROM (
  SELECT n, a, to_timestamp({start_s} + n * CAST(:step_ms AS bigint) / 1000.0) AS ts,
    CASE (CAST(:agent0 AS int) + a) % 4 WHEN 0 THEN CAST(:cash AS int) ELSE CAST(:usdc AS int) END AS asset_id,
    50000000 - (a * 1000003 + (n * 2 + (bench.h(n * 10000 + a, 52) & 1)) * (1 + a % 40) * 500) % 45000000 AS amount,
    50000000 - (a * 1000003 + ((n - 1) * 2 + (bench.h((n - 1) * 10000 + a, 52) & 1)) * (1 + a % 40) * 500) % 45000000
      AS amount_before
  FROM generate_series(CAST(:from_n AS bigint), CAST(:to_n AS bigint) - 1) AS n
  CROSS JOIN generate_series(0, CAST(:agents AS bigint) - 1) AS a
) s

-- name: make_audit_events
-- Events [from_n, to_n) of retries and failures.
INSERT INTO tollwatch.audit_events (project_id, ts, id, event_type, severity, agent_id, component, request_id, entity_type, entity_id,
  details, origin, recorded_at)
SELECT :project_id, ts, bench.v7(ts, n, 60), kind.event_type, kind.severity, CAST(:agent0 AS int) + agent, 'service-' || item / 4,
  bench.v7(asked_at, q, 20), 'service', 'service-' || item / 4, jsonb_build_object('attempt', 2), 'agent',
  bench.recorded(ts, agent)
FROM (
  SELECT *, bench.asked_at(q) AS asked_at, bench.asked_at(q) + INTERVAL '1 s' AS ts, bench.agent_of(q) AS agent,
    bench.resource_of(q, bench.agent_of(q)) AS item
  FROM (
    SELECT n, n * CAST(:requests AS bigint) / CAST(:events AS bigint) AS q
    FROM generate_series(CAST(:from_n AS bigint), CAST(:to_n AS bigint) - 1) AS n
  ) k
) e
JOIN (VALUES (0, 'retry_success', 'info'), (1, 'payment_failure', 'error'), (2, 'network_failure', 'warning'),
             (3, 'rate_limited', 'warning')) AS kind (number, event_type, severity) ON kind.number = n % 4

-- name: make_incidents
-- Breakers that open, half open and close, :incidents of them whatever the size; agents that pause and resume.
INSERT INTO tollwatch.audit_events (project_id, ts, id, event_type, severity, agent_id, component, details, origin, recorded_at)
SELECT :project_id, at, bench.v7(at, n * 5 + number, 62), event_type, severity, CAST(:agent0 AS int) + agent,
  CASE WHEN number < 3 THEN 'service-' || agent * 7 % 50 END, '{}', 'agent', bench.recorded(at, agent)
FROM (
  SELECT n, CAST(bench.u(n, 64) * CAST(:agents AS int) AS int) % CAST(:agents AS int) AS agent,
    to_timestamp({start_s} + floor(({seconds} - 1200) * 1000.0 * (n + bench.u(n, 65)) / :incidents) / 1000) AS ts
  FROM generate_series(0, CAST(:incidents AS bigint) - 1) AS n
) i
CROSS JOIN LATERAL (VALUES
  (0, 'breaker_opened', 'error', ts), (1, 'breaker_half_opened', 'warning', ts + INTERVAL '5 minutes'),
  (2, 'breaker_closed', 'info', ts + INTERVAL '6 minutes'), (3, 'paused', 'warning', ts + INTERVAL '1 minute'),
  (4, 'resumed', 'info', ts + INTERVAL '11 minutes')
) AS kind (number, event_type, severity, at)
WHERE number < 3 OR n % 10 = 0

-- name: make_queue_events
-- Events [from_n, to_n): requests put off, and taken up again two minutes later; the last ones wait.
INSERT INTO tollwatch.queue_events (project_id, ts, id, agent_id, request_id, state, priority_score, reason, asset_id, balance,
  freshness_s, origin, recorded_at)
SELECT :project_id, ts, bench.v7(ts, n, 66), CAST(:agent0 AS int) + agent, bench.v7(asked_at, q, 20),
  CASE n % 2 WHEN 0 THEN 'queued' ELSE 'processed' END, 0.5, 'funds', CAST(:usdc AS int), 1000, 20, 'agent', bench.recorded(ts, agent)
FROM (
  SELECT *, bench.asked_at(q) AS asked_at, bench.asked_at(q) + n % 2 * INTERVAL '2 minutes' AS ts, bench.agent_of(q) AS agent
  FROM (
    SELECT n, n / 2 * 2 * CAST(:requests AS bigint) / CAST(:events AS bigint) AS q
    FROM generate_series(CAST(:from_n AS bigint), CAST(:to_n AS bigint) - 1) AS n
  ) k
) e
WHERE ts <= CAST(:end_ts AS timestamptz)

-- name: make_payment_heads
-- Heads of the payments whose first transition lies in [from_ts, to_ts), from the facts.
INSERT INTO tollwatch.payment_heads (project_id, payment_id, agent_id, asset_id, amount, told, rank, status, origin, ts, opened_ts,
  last_ts, request_id, signature)
SELECT DISTINCT ON (payment_id) project_id, payment_id, agent_id, asset_id, amount,
  bit_or(tollwatch.payment_bit(status)) OVER payment, rank, status, origin, ts, min(ts) OVER payment,
  max(ts) OVER payment, request_id,
  first_value(signature) OVER (payment ORDER BY signature)
FROM (
  SELECT *, tollwatch.payment_rank(status, origin) AS rank FROM tollwatch.payments
  WHERE project_id = :project_id AND ts >= :from_ts AND ts < CAST(:to_ts AS timestamptz) + INTERVAL '1 minute'
) p
WHERE payment_id >= CAST(:from_id AS uuid) AND payment_id < CAST(:to_id AS uuid)
WINDOW payment AS (PARTITION BY payment_id)
ORDER BY payment_id, rank DESC, ts

-- name: make_settlements
-- Which payment each transaction settled.
INSERT INTO tollwatch.payment_settlements (project_id, signature, payment_id)
SELECT project_id, signature, payment_id FROM tollwatch.payments
WHERE project_id = :project_id AND ts >= :from_ts AND ts < :to_ts AND status = 'settled' AND NOT is_duplicate
ORDER BY signature

-- name: make_balance_heads
-- The newest sample of each wallet.
INSERT INTO tollwatch.balance_heads (project_id, wallet_id, asset_id, agent_id, ts, amount, slot, commitment, threshold, status)
SELECT DISTINCT ON (wallet_id, asset_id) project_id, wallet_id, asset_id, agent_id, ts, amount, slot, commitment, threshold, status
FROM tollwatch.balance_samples
WHERE project_id = :project_id AND ts >= :from_ts
ORDER BY wallet_id, asset_id, slot DESC, ts DESC

-- name: make_breaker_heads
-- The newest transition of each breaker.
INSERT INTO tollwatch.breaker_heads (project_id, agent_id, component, state, ts, event_id)
SELECT DISTINCT ON (agent_id, component) project_id, agent_id, component,
  CASE event_type WHEN 'breaker_opened' THEN 'open' WHEN 'breaker_half_opened' THEN 'half_open' ELSE 'closed' END, ts, id
FROM tollwatch.audit_events
WHERE project_id = :project_id AND ts >= :start_ts
  AND event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed')
ORDER BY agent_id, component, ts DESC, id DESC

-- name: make_queue_heads
-- The newest state of each request that was put off.
INSERT INTO tollwatch.queue_heads (project_id, agent_id, request_id, state, ts, queued_ts, priority_score, reason)
SELECT DISTINCT ON (agent_id, request_id) project_id, agent_id, request_id, state, ts,
  min(ts) FILTER (WHERE state = 'queued') OVER (PARTITION BY agent_id, request_id), priority_score, reason
FROM tollwatch.queue_events
WHERE project_id = :project_id AND ts >= :start_ts
ORDER BY agent_id, request_id, ts DESC

-- name: asset
-- An asset of a network by its symbol. Returns id.
SELECT id FROM tollwatch.assets WHERE network = :network AND symbol = :symbol

-- name: column_jobs
-- TimescaleDB's jobs that turn old chunks into columnstore (community). Returns job_id.
SELECT job_id FROM timescaledb_information.jobs WHERE proc_name IN ('policy_compression', 'policy_columnstore') ORDER BY 1

-- name: run_job
-- Run one job now.
CALL public.run_job(:job_id)

-- name: schedule_jobs
-- Let TimescaleDB's jobs of the schema run, or not (community).
SELECT public.alter_job(job_id, scheduled => CAST(:scheduled AS boolean))
FROM timescaledb_information.jobs WHERE hypertable_schema IN ('tollwatch', '_timescaledb_internal') AND job_id >= 1000

-- name: analyze
-- What autovacuum would do in its own time.
VACUUM (ANALYZE)

-- name: analyze_facts
-- What the heads are made from: its statistics are enough, and need no pass over every page.
ANALYZE tollwatch.payments, tollwatch.balance_samples, tollwatch.audit_events, tollwatch.queue_events

-- name: some_agents
-- Names to ask for: agents.
SELECT name FROM tollwatch.agents WHERE project_id = :project_id ORDER BY id % 37, id LIMIT 200

-- name: some_services
-- Names to ask for: services.
SELECT DISTINCT service FROM bench.resources ORDER BY 1

-- name: some_wallets
-- Names to ask for: wallets.
SELECT address_text FROM tollwatch.wallets WHERE project_id = :project_id ORDER BY id % 37, id LIMIT 200

-- name: some_payments
-- Names to ask for: payments of any age.
SELECT payment_id FROM tollwatch.payment_heads WHERE project_id = :project_id ORDER BY uuid_hash(payment_id) LIMIT 200

-- name: some_requests
-- Names to ask for: requests of any age.
SELECT request_id FROM tollwatch.payment_heads WHERE project_id = :project_id ORDER BY uuid_hash(payment_id) LIMIT 200

-- name: columnstore_sizes
-- Chunks of a relation that are columnstore (community). Returns rows, row_bytes (before), column_bytes (now, what is left of
-- the row part and all indexes included), from_ts, to_ts.
SELECT coalesce(sum(z.numrows_pre_compression), 0) AS rows,
  coalesce(sum(z.uncompressed_heap_size + z.uncompressed_toast_size + z.uncompressed_index_size), 0) AS row_bytes,
  sum(pg_total_relation_size(format('%I.%I', k.chunk_schema, k.chunk_name)::regclass)
    + z.compressed_heap_size + z.compressed_toast_size + z.compressed_index_size) AS column_bytes,
  min(k.range_start) AS from_ts, max(k.range_end) AS to_ts
FROM timescaledb_information.chunks k
JOIN _timescaledb_catalog.chunk c ON c.relid = format('%I.%I', k.chunk_schema, k.chunk_name)::regclass
JOIN _timescaledb_catalog.compression_chunk_size z ON z.chunk_id = c.id
WHERE k.hypertable_schema = 'tollwatch' AND k.hypertable_name = '{relation}' AND k.is_compressed

-- name: chunk_sizes
-- The same of all chunks (Apache edition), which has no columnstore.
SELECT (SELECT count(*) FROM tollwatch.{relation}) AS rows,
  coalesce(sum(pg_total_relation_size(format('%I.%I', k.chunk_schema, k.chunk_name)::regclass)), 0) AS row_bytes,
  CAST(NULL AS bigint) AS column_bytes, min(k.range_start) AS from_ts, max(k.range_end) AS to_ts
FROM timescaledb_information.chunks k
WHERE k.hypertable_schema = 'tollwatch' AND k.hypertable_name = '{relation}'

-- name: partition_sizes
-- The same of all partitions (plain).
SELECT (SELECT count(*) FROM tollwatch.{relation}) AS rows,
  coalesce(sum(pg_total_relation_size(t.relid)), 0) AS row_bytes, CAST(NULL AS bigint) AS column_bytes,
  TIMESTAMPTZ '2000-01-01Z' AS from_ts, TIMESTAMPTZ '2100-01-01Z' AS to_ts
FROM pg_partition_tree('tollwatch.{relation}') AS t
WHERE t.isleaf

-- name: distinct_values
-- How many different values columns have within a range.
SELECT {counts} FROM tollwatch.{relation} WHERE ts >= :from_ts AND ts < :to_ts
