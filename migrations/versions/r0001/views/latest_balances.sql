-- The newest balance of every wallet and asset, by slot. Amounts in atomic units; tokens in whole ones.
CREATE VIEW tollwatch_read.latest_balances WITH (security_barrier) AS
SELECT g.name AS agent, w.network, w.address_text AS wallet, s.symbol AS asset, h.ts, h.amount,
  h.amount / 10::numeric ^ coalesce(s.decimals, 0) AS tokens, h.threshold,
  h.threshold / 10::numeric ^ coalesce(s.decimals, 0) AS threshold_tokens, h.slot, h.commitment, h.status, h.reason
FROM tollwatch.balance_heads h
JOIN tollwatch.agents g ON g.id = h.agent_id
JOIN tollwatch.wallets w ON w.id = h.wallet_id
JOIN tollwatch.assets s ON s.id = h.asset_id
WHERE h.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
