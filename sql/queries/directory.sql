-- Names to ids: what an event says about projects, agents, wallets and assets, and what is kept for it.

-- name: agents_by_name
-- Agents of one project by their names. Returns id, name, network, max_retries.
SELECT id, name, network, max_retries
FROM tollwatch.agents
WHERE project_id = :project_id AND name = ANY(CAST(:names AS text[]))

-- name: existing_projects
-- Which of these projects are (still) there. Returns ids.
SELECT id FROM tollwatch.projects WHERE id = ANY(CAST(:ids AS int[]))

-- name: wallets_by_address
-- Wallets of one project by network and address. Returns id, network, address.
SELECT w.id, w.network, w.address
FROM unnest(CAST(:networks AS text[]), CAST(:addresses AS bytea[])) AS named (network, address)
JOIN tollwatch.wallets w ON w.project_id = :project_id AND w.network = named.network AND w.address = named.address

-- name: assets_by_name
-- Assets that one project knows, by symbol or mint. Returns id, project_id, network, mint, symbol, registered; the
-- best match of a name comes first: registered ones, the project's own, the oldest.
SELECT id, project_id, network, mint, symbol, registered
FROM tollwatch.assets
WHERE (project_id = :project_id OR project_id IS NULL) AND network = ANY(CAST(:networks AS text[]))
  AND (symbol = ANY(CAST(:symbols AS text[])) OR mint = ANY(CAST(:mints AS bytea[])))
ORDER BY registered DESC, project_id NULLS LAST, id

-- name: lock_unregistered
-- One transaction at a time adds unregistered names to a project, so that their number is exact. Freed at its end.
SELECT pg_advisory_xact_lock(hashtext('tollwatch.unregistered'), CAST(:project_id AS int))

-- name: count_unregistered
-- Unregistered wallets and assets of one project.
SELECT (SELECT count(*) FROM tollwatch.wallets WHERE project_id = :project_id AND NOT registered)
  + (SELECT count(*) FROM tollwatch.assets WHERE project_id = :project_id AND NOT registered)

-- name: keep_unregistered_wallets
-- Wallets that events named and nobody registered. Returns id, network, address.
INSERT INTO tollwatch.wallets (project_id, network, address, address_text, registered)
SELECT :project_id, network, address, address_text, false
FROM unnest(CAST(:networks AS text[]), CAST(:addresses AS bytea[]), CAST(:texts AS text[]))
  AS named (network, address, address_text)
ON CONFLICT (project_id, network, address) DO NOTHING
RETURNING id, network, address

-- name: keep_unregistered_assets
-- Mints that events named and nobody registered; their symbol is the mint. Returns id, network, symbol.
INSERT INTO tollwatch.assets (project_id, network, mint, symbol, registered)
SELECT :project_id, network, mint, symbol, false
FROM unnest(CAST(:networks AS text[]), CAST(:mints AS bytea[]), CAST(:texts AS text[])) AS named (network, mint, symbol)
ON CONFLICT (project_id, network, mint) DO NOTHING
RETURNING id, network, symbol
