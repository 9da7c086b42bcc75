-- Payments whose fate is not known: pending, verified, retrying, unknown.
CREATE VIEW tollwatch.open_payments AS
SELECT project_id, payment_id, request_id, agent_id, asset_id, amount, status, origin, ts, opened_ts
FROM tollwatch.payment_heads
WHERE rank < 100
