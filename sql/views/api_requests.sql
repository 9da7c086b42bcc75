-- Every attempt of every request. Always bound ts.
CREATE VIEW tollwatch_read.api_requests WITH (security_barrier) AS
SELECT q.ts, q.id, q.request_id, q.attempt, q.max_retries, g.name AS agent, w.address_text AS wallet, q.session_id, q.service,
  q.endpoint_type, q.resource, q.method, q.response_status, q.x402_version, q.payment_required, q.payment_id, q.paid,
  q.latency_ms, q.backoff_ms, q.component, q.breaker_state, q.outcome, q.error_type, q.failure_reason,
  encode(q.request_digest, 'hex') AS request_digest, encode(q.response_digest, 'hex') AS response_digest, q.response_bytes,
  q.data_as_of, q.origin, q.recorded_at
FROM tollwatch.api_requests q
JOIN tollwatch.agents g ON g.id = q.agent_id
LEFT JOIN tollwatch.wallets w ON w.id = q.wallet_id
WHERE q.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
