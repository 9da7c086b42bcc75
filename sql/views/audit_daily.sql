-- Audit events per day (UTC) by agent, type, severity and component.
CREATE VIEW tollwatch_read.audit_daily WITH (security_barrier) AS
SELECT v.bucket, g.name AS agent, v.event_type, v.severity, v.component, v.events
FROM tollwatch.audit_daily v
LEFT JOIN tollwatch.agents g ON g.id = v.agent_id
WHERE v.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
