-- Audit events per hour: one group per project, agent, type, severity and component. agent_id 0: of no agent.
SELECT
  {time_bucket}(INTERVAL '1 hour', ts) AS bucket,
  project_id, coalesce(agent_id, 0) AS agent_id, event_type, severity, coalesce(component, '') AS component,
  count(*) AS events
FROM tollwatch.audit_events
WHERE {range}
GROUP BY 1, 2, 3, 4, 5, 6
