-- Registration: agents and wallets, idempotent.

-- name: put_agent
-- Make an agent, or make it what is asked for (an archived one comes back). Returns created; no row: it is so already, or
-- the project has no room for one more.
INSERT INTO tollwatch.agents AS a (project_id, name, autonomy_phase, network, api_endpoints, priority_rules, max_retries,
  low_balance_threshold, breaker_timeout_s, active)
SELECT :project_id, :name, :autonomy_phase, :network, CAST(:api_endpoints AS jsonb), CAST(:priority_rules AS jsonb),
  :max_retries, CAST(:low_balance_threshold AS numeric), :breaker_timeout_s, :active
WHERE EXISTS (SELECT FROM tollwatch.agents WHERE project_id = :project_id AND name = :name)
  OR (SELECT count(*) FROM tollwatch.agents WHERE project_id = :project_id) < :max_agents
ON CONFLICT (project_id, name) DO UPDATE SET
  autonomy_phase = excluded.autonomy_phase, network = excluded.network, api_endpoints = excluded.api_endpoints,
  priority_rules = excluded.priority_rules, max_retries = excluded.max_retries,
  low_balance_threshold = excluded.low_balance_threshold, breaker_timeout_s = excluded.breaker_timeout_s,
  active = excluded.active, archived_at = NULL, updated_at = now()
WHERE a.archived_at IS NOT NULL
  OR (a.autonomy_phase, a.network, a.api_endpoints, a.priority_rules, a.max_retries, a.low_balance_threshold,
      a.breaker_timeout_s, a.active)
    IS DISTINCT FROM
     (excluded.autonomy_phase, excluded.network, excluded.api_endpoints, excluded.priority_rules, excluded.max_retries,
      excluded.low_balance_threshold, excluded.breaker_timeout_s, excluded.active)
RETURNING xmax = 0 AS created

-- name: agent_exists
-- Whether a project has an agent of that name. Asked after put_agent, as it sees what others committed meanwhile.
SELECT EXISTS (SELECT FROM tollwatch.agents WHERE project_id = :project_id AND name = :name)

-- name: put_wallet
-- Register a wallet for an agent, also one that events named before; a wallet of another agent stays as it is.
-- Returns id, created (it was not registered before); no row: another agent's, or no room for one more.
WITH before AS (
  SELECT registered FROM tollwatch.wallets
  WHERE project_id = :project_id AND network = :network AND address = :address AND archived_at IS NULL
), put AS (
  INSERT INTO tollwatch.wallets AS w (project_id, agent_id, network, address, address_text, registered)
  SELECT :project_id, :agent_id, :network, :address, :address_text, true
  WHERE (SELECT registered FROM before)
    OR (SELECT count(*) FROM tollwatch.wallets WHERE project_id = :project_id AND registered) < :max_wallets
  ON CONFLICT (project_id, network, address) DO UPDATE
  SET agent_id = excluded.agent_id, registered = true, archived_at = NULL, updated_at = now()
  WHERE NOT w.registered OR w.agent_id = excluded.agent_id
  RETURNING id, xmax = 0 AS inserted
)
SELECT id, inserted OR coalesce((SELECT NOT registered FROM before), false) AS created FROM put

-- name: wallet_owner
-- The name of the agent that a registered wallet belongs to.
SELECT g.name
FROM tollwatch.wallets w
JOIN tollwatch.agents g ON g.id = w.agent_id
WHERE w.project_id = :project_id AND w.network = :network AND w.address = :address AND w.registered

-- name: drop_wallet_thresholds
-- Forget a wallet's thresholds of assets that are not listed.
DELETE FROM tollwatch.wallet_thresholds WHERE wallet_id = :wallet_id AND asset_id <> ALL(CAST(:asset_ids AS int[]))

-- name: put_wallet_thresholds
-- Set a wallet's thresholds, in atomic units.
INSERT INTO tollwatch.wallet_thresholds AS t (wallet_id, asset_id, amount)
SELECT :wallet_id, asset_id, amount
FROM unnest(CAST(:asset_ids AS int[]), CAST(:amounts AS bigint[])) AS asked (asset_id, amount)
ON CONFLICT (wallet_id, asset_id) DO UPDATE SET amount = excluded.amount WHERE t.amount <> excluded.amount
