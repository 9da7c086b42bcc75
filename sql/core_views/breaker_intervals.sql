-- How long each circuit breaker was in each state: one row per transition, open-ended for the present state.
CREATE VIEW tollwatch.breaker_intervals AS
SELECT project_id, agent_id, coalesce(component, '') AS component,
  CASE event_type WHEN 'breaker_opened' THEN 'open' WHEN 'breaker_half_opened' THEN 'half_open' ELSE 'closed' END AS state,
  ts AS started_at, lead(ts) OVER breaker AS ended_at, id AS event_id, lead(id) OVER breaker AS ended_by
FROM tollwatch.audit_events
WHERE event_type IN ('breaker_opened', 'breaker_half_opened', 'breaker_closed') AND agent_id IS NOT NULL
WINDOW breaker AS (PARTITION BY project_id, agent_id, coalesce(component, '') ORDER BY ts, id)
