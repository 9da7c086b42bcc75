-- The project's wallets. Unregistered ones were named by an event only.
CREATE VIEW tollwatch_read.wallets WITH (security_barrier) AS
SELECT g.name AS agent, w.network, w.address_text AS wallet, w.registered, w.created_at, w.archived_at
FROM tollwatch.wallets w
LEFT JOIN tollwatch.agents g ON g.id = w.agent_id
WHERE w.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
