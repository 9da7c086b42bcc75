-- Payments per hour by asset, service, status and origin, whoever paid. Amounts in atomic units; tokens in whole ones.
CREATE VIEW tollwatch_read.service_payments_hourly WITH (security_barrier) AS
SELECT v.bucket, s.symbol AS asset, s.network, v.service, v.status, v.origin, v.payments, v.duplicates, v.amount,
  v.amount * s.unit AS tokens, v.retry_amount, v.retry_amount * s.unit AS retry_tokens, v.fee_lamports, v.retries
FROM tollwatch.service_payments_hourly v
JOIN (
  -- A power for each asset, not for each row.
  SELECT id, symbol, network, 10::numeric ^ -coalesce(decimals, 0) AS unit FROM tollwatch.assets OFFSET 0
) s ON s.id = v.asset_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
