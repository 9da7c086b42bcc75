-- The project's agents. low_balance_threshold is in whole tokens.
CREATE VIEW tollwatch_read.agents WITH (security_barrier) AS
SELECT g.name AS agent, g.autonomy_phase, g.network, g.api_endpoints, g.priority_rules, g.max_retries,
  g.low_balance_threshold, g.breaker_timeout_s, g.active, g.created_at, g.updated_at, g.archived_at
FROM tollwatch.agents g
WHERE g.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
