-- Requests that wait now, and why.
CREATE VIEW tollwatch.queue_state AS
SELECT project_id, agent_id, request_id, coalesce(queued_ts, ts) AS queued_at, priority_score, reason
FROM tollwatch.queue_heads
WHERE state = 'queued'
