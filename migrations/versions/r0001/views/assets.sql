-- Assets: those known to everyone, and those that this project's events named.
CREATE VIEW tollwatch_read.assets WITH (security_barrier) AS
SELECT s.network, s.symbol, tollwatch_read.base58(s.mint) AS mint, s.decimals,
  tollwatch_read.base58(s.token_program) AS token_program, s.registered
FROM tollwatch.assets s
WHERE s.project_id IS NULL OR s.project_id = (SELECT r.project_id FROM tollwatch.project_roles r WHERE r.role = session_user)
