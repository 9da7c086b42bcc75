-- Audit events per day (UTC), from the hours.
SELECT
  {time_bucket}(INTERVAL '1 day', bucket) AS bucket,
  project_id, agent_id, event_type, severity, component,
  sum(events)::bigint AS events
FROM tollwatch.audit_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4, 5, 6
