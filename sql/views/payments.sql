-- Every transition of every payment. Always bound ts; leave is_duplicate rows out of sums.
CREATE VIEW tollwatch_read.payments WITH (security_barrier) AS
SELECT p.ts, p.id, p.payment_id, p.request_id, p.x402_payment_id, g.name AS agent, w.address_text AS wallet, p.session_id,
  p.status, p.amount, p.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, s.symbol AS asset, s.network,
  tollwatch_read.base58(p.pay_to) AS pay_to, p.service, p.resource, p.facilitator,
  tollwatch_read.base58(p.signature) AS signature, p.slot, p.commitment, p.confirmations, p.fee_lamports, p.retry_count,
  p.backoff_ms, p.is_duplicate, p.error_type, p.failure_reason, p.facilitator_response, p.metadata, p.origin, p.recorded_at
FROM tollwatch.payments p
JOIN tollwatch.agents g ON g.id = p.agent_id
JOIN tollwatch.assets s ON s.id = p.asset_id
LEFT JOIN tollwatch.wallets w ON w.id = p.wallet_id
WHERE p.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
