-- How long each circuit breaker was in each state; ended_at NULL: the present one.
CREATE VIEW tollwatch_read.breaker_intervals WITH (security_barrier) AS
SELECT g.name AS agent, v.component, v.state, v.started_at, v.ended_at,
  extract(epoch FROM coalesce(v.ended_at, now()) - v.started_at) AS seconds, v.event_id, v.ended_by
FROM tollwatch.breaker_intervals v
JOIN tollwatch.agents g ON g.id = v.agent_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
