-- What the collector samples.

-- name: sampled_wallets
-- Registered wallets of a network whose agent and project are in use, oldest first.
-- Returns wallet_id, project_id, agent_id, address; at most :limit rows.
SELECT w.id AS wallet_id, w.project_id, w.agent_id, w.address
FROM tollwatch.wallets w
JOIN tollwatch.agents a ON a.id = w.agent_id AND a.archived_at IS NULL
JOIN tollwatch.projects p ON p.id = w.project_id AND p.archived_at IS NULL
WHERE w.network = :network AND w.registered AND w.archived_at IS NULL
ORDER BY w.id
LIMIT :limit

-- name: count_sampled_wallets
-- How many wallets `sampled_wallets` has without its limit.
SELECT count(*)
FROM tollwatch.wallets w
JOIN tollwatch.agents a ON a.id = w.agent_id AND a.archived_at IS NULL
JOIN tollwatch.projects p ON p.id = w.project_id AND p.archived_at IS NULL
WHERE w.network = :network AND w.registered AND w.archived_at IS NULL

-- name: sampled_assets
-- Assets of a network that everyone's wallets are sampled in; mint is NULL for the network's own coin.
-- Returns id, symbol, mint, decimals, token_program.
SELECT id, symbol, mint, decimals, token_program
FROM tollwatch.assets
WHERE network = :network AND project_id IS NULL AND registered AND archived_at IS NULL
ORDER BY id
