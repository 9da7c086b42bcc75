-- Resolutions of audit events by persons; automatic ones are the writer's.

-- name: audit_event_at
-- One audit event by its time and id. Returns id.
SELECT id FROM tollwatch.audit_events
WHERE project_id = :project_id AND ts = CAST(:event_ts AS timestamptz) AND id = CAST(:event_id AS uuid)

-- name: put_resolution
-- Record a person's resolution. Returns created; no row: the same person said the same before.
INSERT INTO tollwatch.audit_resolutions AS r
  (project_id, event_id, event_ts, resolved_by, resolved_at, note, automatic)
VALUES (:project_id, CAST(:event_id AS uuid), CAST(:event_ts AS timestamptz), :resolved_by,
  CAST(:resolved_at AS timestamptz), CAST(:note AS text), :automatic)
ON CONFLICT (project_id, event_id) DO UPDATE
SET event_ts = excluded.event_ts, resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at,
  note = excluded.note, automatic = excluded.automatic
WHERE (r.resolved_by, r.note, r.automatic) IS DISTINCT FROM (excluded.resolved_by, excluded.note, excluded.automatic)
RETURNING xmax = 0 AS created

-- name: resolution_of
-- What is recorded about one audit event: event_id, event_ts, resolved_by, resolved_at, note, automatic.
SELECT event_id, event_ts, resolved_by, resolved_at, note, automatic
FROM tollwatch.audit_resolutions
WHERE project_id = :project_id AND event_id = CAST(:event_id AS uuid)
