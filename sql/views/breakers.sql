-- Present state of every circuit breaker, and since when.
CREATE VIEW tollwatch_read.breakers WITH (security_barrier) AS
SELECT g.name AS agent, b.component, b.state, b.ts AS since
FROM tollwatch.breaker_heads b
JOIN tollwatch.agents g ON g.id = b.agent_id
WHERE b.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
