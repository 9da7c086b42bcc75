-- API keys: who calls, for which project, and what they may do.

-- name: key_by_hash
-- One key by the SHA-256 of its text, with its project: id, project_id, project_name, hash, scopes, expires_at, revoked_at.
SELECT k.id, k.project_id, p.name AS project_name, k.hash, k.scopes, k.expires_at, k.revoked_at
FROM tollwatch.api_keys k
JOIN tollwatch.projects p ON p.id = k.project_id
WHERE k.hash = :hash AND k.archived_at IS NULL AND p.archived_at IS NULL

-- name: touch_keys
-- Remember that keys were used; at most once a minute each, whatever other processes do.
UPDATE tollwatch.api_keys SET last_used_at = now()
WHERE id = ANY(CAST(:ids AS int[])) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')

-- name: insert_key
-- A new key of a project.
INSERT INTO tollwatch.api_keys (project_id, name, prefix, hash, scopes, created_by)
VALUES (:project_id, :name, :prefix, :hash, CAST(:scopes AS text[]), :created_by)
