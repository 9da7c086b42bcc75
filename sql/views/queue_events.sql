-- Every decision to put off, take up or give up a request. Always bound ts.
CREATE VIEW tollwatch_read.queue_events WITH (security_barrier) AS
SELECT u.ts, u.id, g.name AS agent, u.request_id, u.state, u.priority_score, u.reason, s.symbol AS asset, u.balance,
  u.freshness_s, u.origin, u.recorded_at
FROM tollwatch.queue_events u
JOIN tollwatch.agents g ON g.id = u.agent_id
LEFT JOIN tollwatch.assets s ON s.id = u.asset_id
WHERE u.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
