-- The ledger, by ts: one line per request, audit event and queue event. Always bound ts.
CREATE VIEW tollwatch_read.audit_trail WITH (security_barrier) AS
SELECT v.ts, v.kind, v.id, g.name AS agent, v.request_id, v.what, v.severity, v.component, v.service, v.resource, v.success,
  v.attempts, v.started_at, v.payment_id, v.payment_status, v.payment_origin, s.symbol AS asset, v.amount,
  v.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, v.spent,
  tollwatch_read.base58(v.signature) AS signature, v.balance_before, v.balance_after, v.details, v.resolved_at
FROM tollwatch.audit_trail v
LEFT JOIN tollwatch.agents g ON g.id = v.agent_id
LEFT JOIN tollwatch.assets s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
