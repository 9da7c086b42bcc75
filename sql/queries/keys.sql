-- API keys: who calls, for which project, what they may do, and how keys come and go.

-- name: key_by_hash
-- One key by the SHA-256 of its text, with its project: id, project_id, project_name, prefix, name, hash, scopes,
-- expires_at, revoked_at, events_per_s, bytes_per_s.
SELECT k.id, k.project_id, p.name AS project_name, k.prefix, k.name, k.hash, k.scopes, k.expires_at, k.revoked_at,
  k.events_per_s, k.bytes_per_s
FROM tollwatch.api_keys k
JOIN tollwatch.projects p ON p.id = k.project_id
WHERE k.hash = :hash AND k.archived_at IS NULL AND p.archived_at IS NULL

-- name: touch_keys
-- Remember that keys were used; at most once a minute each, whatever other processes do.
UPDATE tollwatch.api_keys SET last_used_at = now()
WHERE id = ANY(CAST(:ids AS int[])) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- name: lock_project_keys
-- Let one at a time add keys to a project, so that their number has a bound.
SELECT id FROM tollwatch.projects WHERE id = :project_id FOR NO KEY UPDATE

-- name: archive_dead_keys
-- Keys that stopped working long ago leave the list.
UPDATE tollwatch.api_keys SET archived_at = now(), updated_at = now()
WHERE project_id = :project_id AND archived_at IS NULL AND least(revoked_at, expires_at) < CAST(:before AS timestamptz)

-- name: count_keys
-- How many keys of a project are listed.
SELECT count(*) FROM tollwatch.api_keys WHERE project_id = :project_id AND archived_at IS NULL

-- name: insert_key
-- A new key of a project. Returns id.
INSERT INTO tollwatch.api_keys
  (project_id, name, prefix, hash, scopes, created_by, created_at, expires_at, events_per_s, bytes_per_s)
VALUES (:project_id, :name, :prefix, :hash, CAST(:scopes AS text[]), :created_by, CAST(:created_at AS timestamptz),
  CAST(:expires_at AS timestamptz), CAST(:events_per_s AS int), CAST(:bytes_per_s AS bigint))
RETURNING id

-- name: list_keys
-- Keys of a project, or of all with project_id NULL, newest first: what may be told of them.
SELECT p.name AS project, k.prefix, k.name, k.scopes, k.created_at, k.created_by, k.last_used_at, k.expires_at,
  k.revoked_at, n.prefix AS replaced_by, k.events_per_s, k.bytes_per_s
FROM tollwatch.api_keys k
JOIN tollwatch.projects p ON p.id = k.project_id
LEFT JOIN tollwatch.api_keys n ON n.id = k.replaced_by
WHERE (CAST(:project_id AS int) IS NULL OR k.project_id = :project_id)
  AND (CAST(:prefix AS text) IS NULL OR k.prefix = :prefix)
  AND k.archived_at IS NULL AND p.archived_at IS NULL
ORDER BY k.id DESC
LIMIT :limit

-- name: lock_key
-- One key by its prefix, of a project or of any with project_id NULL, locked until the change of it commits: id,
-- project_id.
SELECT k.id, k.project_id
FROM tollwatch.api_keys k
JOIN tollwatch.projects p ON p.id = k.project_id
WHERE k.prefix = :prefix AND (CAST(:project_id AS int) IS NULL OR k.project_id = :project_id)
  AND k.archived_at IS NULL AND p.archived_at IS NULL
FOR UPDATE OF k

-- name: revoke_key
-- A key works no more. No row: it was revoked before.
UPDATE tollwatch.api_keys SET revoked_at = CAST(:now AS timestamptz), updated_at = now()
WHERE id = :id AND revoked_at IS NULL
RETURNING id

-- name: replace_key
-- A key has a successor and works until then at most.
UPDATE tollwatch.api_keys
SET replaced_by = :replaced_by, expires_at = least(expires_at, CAST(:until AS timestamptz)), updated_at = now()
WHERE id = :id

-- name: insert_key_event
-- The audit event of a change of a key. Nobody but Tollwatch says so: origin collector, as for its other own events.
INSERT INTO tollwatch.audit_events
  (project_id, ts, id, event_type, severity, component, entity_type, entity_id, details, origin)
VALUES (:project_id, CAST(:ts AS timestamptz), CAST(:id AS uuid), :event_type, 'info', 'keys', 'api_key', :entity_id,
  CAST(:details AS jsonb), 'collector')
