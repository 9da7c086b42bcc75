-- Reads of the API that answer with rows as they are stored, and with present state.
--
-- A page is cut from its relation first and named afterwards: the inner SELECT walks the primary key backwards and stops
-- at its limit, so that names are looked up for the page alone. The bound `ts <= :before_ts` says nothing that the row
-- comparison does not say; it is there for partitions and chunks, which are left out by plain comparisons only. Optional
-- filters fold away, because a plan is made for the very values (see store/engine.py).

-- name: read_agent_id
-- One agent of a project by name. Returns id.
SELECT id FROM tollwatch.agents WHERE project_id = :project_id AND name = :name

-- name: read_agent_names
-- Names of a project's agents, for a message: the first of them. Returns name.
SELECT name FROM tollwatch.agents WHERE project_id = :project_id ORDER BY name LIMIT :limit

-- name: read_asset_ids
-- Assets that a project sees under a symbol, or by mint, on any network. Returns id.
SELECT id FROM tollwatch.assets
WHERE (project_id IS NULL OR project_id = :project_id) AND (symbol = :symbol OR mint = CAST(:mint AS bytea))
ORDER BY id

-- name: read_asset_symbols
-- Symbols of registered assets that a project sees, for a message: the first of them. Returns symbol.
SELECT DISTINCT symbol FROM tollwatch.assets
WHERE (project_id IS NULL OR project_id = :project_id) AND registered
ORDER BY symbol LIMIT :limit

-- name: read_wallet_ids
-- Wallets of a project by address, on any network. Returns id.
SELECT id FROM tollwatch.wallets WHERE project_id = :project_id AND address_text = :address ORDER BY id

-- name: read_agents
-- A page of a project's agents by name, archived ones too.
SELECT g.id AS agent_id, g.name AS agent, g.autonomy_phase, g.network, CAST(g.api_endpoints AS text) AS api_endpoints,
  CAST(g.priority_rules AS text) AS priority_rules, g.max_retries, g.low_balance_threshold, g.breaker_timeout_s, g.active,
  g.created_at, g.updated_at, g.archived_at
FROM tollwatch.agents g
WHERE g.project_id = :project_id AND g.name > :after_agent
ORDER BY g.name
LIMIT :limit

-- name: read_agent
-- One agent of a project by name.
SELECT g.id AS agent_id, g.name AS agent, g.autonomy_phase, g.network, CAST(g.api_endpoints AS text) AS api_endpoints,
  CAST(g.priority_rules AS text) AS priority_rules, g.max_retries, g.low_balance_threshold, g.breaker_timeout_s, g.active,
  g.created_at, g.updated_at, g.archived_at
FROM tollwatch.agents g
WHERE g.project_id = :project_id AND g.name = :name

-- name: read_agent_wallets
-- One agent's wallets, and their own thresholds: one row per threshold, or one with none. Returns the wallet's columns,
-- asset (symbol or NULL) and amount (atomic units or NULL).
SELECT w.id AS wallet_id, w.address_text AS address, w.network, w.registered, w.created_at, w.updated_at, w.archived_at,
  s.symbol AS asset, t.amount
FROM tollwatch.wallets w
LEFT JOIN tollwatch.wallet_thresholds t ON t.wallet_id = w.id
LEFT JOIN tollwatch.assets s ON s.id = t.asset_id
WHERE w.project_id = :project_id AND w.agent_id = :agent_id
ORDER BY w.network, w.address_text, s.symbol, t.asset_id

-- name: read_balances
-- A page of newest balances, by wallet and asset.
SELECT h.wallet_id, h.asset_id, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, h.ts, h.amount,
  h.threshold, h.slot, h.commitment, h.status, h.reason
FROM tollwatch.balance_heads h
JOIN tollwatch.agents g ON g.id = h.agent_id
JOIN tollwatch.wallets w ON w.id = h.wallet_id
JOIN tollwatch.assets s ON s.id = h.asset_id
WHERE h.project_id = :project_id
  AND (h.wallet_id, h.asset_id) > (CAST(:after_wallet_id AS int), CAST(:after_asset_id AS int))
  AND h.slot >= 0
  AND (CAST(:agent_id AS int) IS NULL OR h.agent_id = :agent_id)
  AND (CAST(:wallet_ids AS int[]) IS NULL OR h.wallet_id = ANY (:wallet_ids))
  AND (CAST(:asset_ids AS int[]) IS NULL OR h.asset_id = ANY (:asset_ids))
  AND (CAST(:status AS text) IS NULL OR h.status = :status)
ORDER BY h.wallet_id, h.asset_id
LIMIT :limit

-- name: read_balance_samples
-- A page of samples: wallet by wallet and asset by asset (newest registered first), each newest first. Pair by pair from
-- the heads, because samples are keyed by wallet and asset before time; the pairs after a full page are never looked at.
-- The rest of the pair that the last page ended in is a question of its own: of a bound for one pair the planner knows
-- nothing, expects fewer rows than a page, and may read all of them.
SELECT b.wallet_id, b.asset_id, b.ts, g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, b.amount,
  b.slot, b.commitment, b.threshold, b.status, b.reason, b.origin, b.recorded_at
FROM (
  SELECT b.*
  FROM tollwatch.balance_heads h
  CROSS JOIN LATERAL (
    SELECT b.*
    FROM tollwatch.balance_samples b
    WHERE b.project_id = :project_id AND b.wallet_id = h.wallet_id AND b.asset_id = h.asset_id
      AND b.ts >= :from_ts AND b.ts < :to_ts
      AND (CAST(:agent_id AS int) IS NULL OR b.agent_id = :agent_id)
      AND (CAST(:status AS text) IS NULL OR b.status = :status)
    ORDER BY b.ts DESC
    LIMIT :limit
  ) b
  WHERE h.project_id = :project_id
    AND (h.wallet_id, h.asset_id) < (CAST(:before_wallet_id AS int), CAST(:before_asset_id AS int))
    -- Pairs that the agent has, or had within the range: the others would be looked into for nothing.
    AND (CAST(:agent_id AS int) IS NULL OR h.agent_id = :agent_id OR h.wallet_id IN (
      SELECT r.wallet_id
      FROM tollwatch.balances_daily r
      WHERE r.project_id = :project_id AND r.agent_id = :agent_id
        AND r.bucket > CAST(:from_ts AS timestamptz) - INTERVAL '1 day' AND r.bucket < :to_ts
    ))
    AND (CAST(:wallet_ids AS int[]) IS NULL OR h.wallet_id = ANY (:wallet_ids))
    AND (CAST(:asset_ids AS int[]) IS NULL OR h.asset_id = ANY (:asset_ids))
  ORDER BY h.wallet_id DESC, h.asset_id DESC, b.ts DESC
  LIMIT :limit
) b
JOIN tollwatch.agents g ON g.id = b.agent_id
JOIN tollwatch.wallets w ON w.id = b.wallet_id
JOIN tollwatch.assets s ON s.id = b.asset_id
ORDER BY b.wallet_id DESC, b.asset_id DESC, b.ts DESC

-- name: read_payments
-- A page of transitions, newest first. Repeats only when :duplicates.
SELECT p.ts, p.id, p.payment_id, p.request_id, p.x402_payment_id, g.name AS agent, w.address_text AS wallet, p.session_id,
  p.status, p.amount, s.symbol AS asset, s.network, p.pay_to, p.service, p.resource, p.facilitator, p.signature, p.slot,
  p.commitment, p.confirmations, p.fee_lamports, p.retry_count, p.backoff_ms, p.is_duplicate, p.error_type,
  p.failure_reason, CAST(p.facilitator_response AS text) AS facilitator_response, CAST(p.metadata AS text) AS metadata,
  p.origin, p.recorded_at
FROM (
  SELECT p.*
  FROM tollwatch.payments p
  WHERE p.project_id = :project_id AND p.ts >= :from_ts AND p.ts <= :before_ts
    AND (p.ts, p.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
    AND (CAST(:duplicates AS boolean) OR NOT p.is_duplicate)
    AND (CAST(:agent_id AS int) IS NULL OR p.agent_id = :agent_id)
    AND (CAST(:asset_ids AS int[]) IS NULL OR p.asset_id = ANY (:asset_ids))
    AND (CAST(:status AS text) IS NULL OR p.status = :status)
    AND (CAST(:origin AS text) IS NULL OR p.origin = :origin)
    AND (CAST(:service AS text) IS NULL OR p.service = :service)
    AND (CAST(:payment_id AS uuid) IS NULL OR p.payment_id = :payment_id)
    AND (CAST(:request_id AS uuid) IS NULL OR p.request_id = :request_id)
    AND (CAST(:signature AS bytea) IS NULL OR p.signature = :signature)
  ORDER BY p.ts DESC, p.id DESC
  LIMIT :limit
) p
JOIN tollwatch.agents g ON g.id = p.agent_id
JOIN tollwatch.assets s ON s.id = p.asset_id
LEFT JOIN tollwatch.wallets w ON w.id = p.wallet_id
ORDER BY p.ts DESC, p.id DESC

-- name: read_payment_head
-- Present state of one payment. last_ts: when it was last told of, or when the head was made, if that was before last_ts was.
SELECT h.payment_id, g.name AS agent, s.symbol AS asset, s.network, h.amount, h.status, h.origin, h.ts, h.opened_ts,
  h.last_ts
FROM tollwatch.payment_heads h
JOIN tollwatch.agents g ON g.id = h.agent_id
JOIN tollwatch.assets s ON s.id = h.asset_id
WHERE h.project_id = :project_id AND h.payment_id = :payment_id AND h.rank >= 0

-- name: read_requests
-- A page of attempts, newest first.
SELECT q.ts, q.id, q.request_id, q.attempt, q.max_retries, g.name AS agent, w.address_text AS wallet, q.session_id, q.service,
  q.endpoint_type, q.resource, q.method, q.response_status, q.x402_version,
  CAST(q.payment_required AS text) AS payment_required, q.payment_id, q.paid, q.latency_ms, q.backoff_ms, q.component,
  q.breaker_state, q.outcome, q.error_type, q.failure_reason, q.request_digest, q.response_digest, q.response_bytes,
  q.data_as_of, q.origin, q.recorded_at
FROM (
  SELECT q.*
  FROM tollwatch.api_requests q
  WHERE q.project_id = :project_id AND q.ts >= :from_ts AND q.ts <= :before_ts
    AND (q.ts, q.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
    AND (CAST(:agent_id AS int) IS NULL OR q.agent_id = :agent_id)
    AND (CAST(:outcome AS text) IS NULL OR q.outcome = :outcome)
    AND (CAST(:origin AS text) IS NULL OR q.origin = :origin)
    AND (CAST(:service AS text) IS NULL OR q.service = :service)
    AND (CAST(:component AS text) IS NULL OR q.component = :component)
    AND (CAST(:error_type AS text) IS NULL OR q.error_type = :error_type)
    AND (CAST(:request_id AS uuid) IS NULL OR q.request_id = :request_id)
    AND (CAST(:payment_id AS uuid) IS NULL OR q.payment_id = :payment_id)
  ORDER BY q.ts DESC, q.id DESC
  LIMIT :limit
) q
JOIN tollwatch.agents g ON g.id = q.agent_id
LEFT JOIN tollwatch.wallets w ON w.id = q.wallet_id
ORDER BY q.ts DESC, q.id DESC

-- name: read_audit_events
-- A page of audit events, newest first, and who dealt with them.
SELECT e.ts, e.id, e.event_type, e.severity, g.name AS agent, e.component, e.request_id, e.entity_type, e.entity_id,
  CAST(e.details AS text) AS details, e.origin, e.recorded_at, r.resolved_at, r.resolved_by, r.note AS resolution,
  r.automatic
FROM (
  SELECT e.*
  FROM tollwatch.audit_events e
  WHERE e.project_id = :project_id AND e.ts >= :from_ts AND e.ts <= :before_ts
    AND (e.ts, e.id) < (CAST(:before_ts AS timestamptz), CAST(:before_id AS uuid))
    AND (CAST(:agent_id AS int) IS NULL OR e.agent_id = :agent_id)
    AND (CAST(:event_type AS text) IS NULL OR e.event_type = :event_type)
    AND (CAST(:severity AS text) IS NULL OR e.severity = :severity)
    AND (CAST(:origin AS text) IS NULL OR e.origin = :origin)
    AND (CAST(:component AS text) IS NULL OR e.component = :component)
    AND (CAST(:request_id AS uuid) IS NULL OR e.request_id = :request_id)
    AND (CAST(:entity_type AS text) IS NULL OR e.entity_type = :entity_type)
    AND (CAST(:entity_id AS text) IS NULL OR e.entity_id = :entity_id)
  ORDER BY e.ts DESC, e.id DESC
  LIMIT :limit
) e
LEFT JOIN tollwatch.agents g ON g.id = e.agent_id
LEFT JOIN tollwatch.audit_resolutions r ON (r.project_id, r.event_id) = (e.project_id, e.id)
ORDER BY e.ts DESC, e.id DESC

-- name: read_breakers
-- A page of circuit breakers' present states, by agent and component. ts: since when.
SELECT b.agent_id, g.name AS agent, g.network, b.component, b.state, b.ts, b.event_id
FROM tollwatch.breaker_heads b
JOIN tollwatch.agents g ON g.id = b.agent_id
WHERE b.project_id = :project_id
  AND (b.agent_id, b.component) > (CAST(:after_agent_id AS int), CAST(:after_component AS text))
  AND (CAST(:agent_id AS int) IS NULL OR b.agent_id = :agent_id)
  AND (CAST(:component AS text) IS NULL OR b.component = :component)
  AND (CAST(:state AS text) IS NULL OR b.state = :state)
ORDER BY b.agent_id, b.component
LIMIT :limit
