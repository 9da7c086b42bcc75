-- Requests that wait now, and why.
CREATE VIEW tollwatch_read.queue_state WITH (security_barrier) AS
SELECT g.name AS agent, v.request_id, v.queued_at, v.priority_score, v.reason
FROM tollwatch.queue_state v
JOIN tollwatch.agents g ON g.id = v.agent_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
