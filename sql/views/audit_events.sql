-- Everything that an operator may have to explain. Always bound ts.
CREATE VIEW tollwatch_read.audit_events WITH (security_barrier) AS
SELECT e.ts, e.id, e.event_type, e.severity, g.name AS agent, e.component, e.request_id, e.entity_type, e.entity_id,
  e.details, e.origin, e.recorded_at, r.resolved_at, r.resolved_by, r.note AS resolution, r.automatic
FROM tollwatch.audit_events e
LEFT JOIN tollwatch.audit_resolutions r ON (r.project_id, r.event_id) = (e.project_id, e.id)
LEFT JOIN tollwatch.agents g ON g.id = e.agent_id
WHERE e.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
