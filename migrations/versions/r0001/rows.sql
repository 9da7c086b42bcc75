INSERT INTO tollwatch.schema_info (edition, timescaledb_version)
VALUES ('{edition}', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'));

-- The assets that Tollwatch knows by name. Mints from the issuers' own documentation.
INSERT INTO tollwatch.assets (network, mint, symbol, decimals, token_program, registered)
SELECT network, decode(mint, 'hex'), symbol, decimals, decode(program, 'hex'), true
FROM (VALUES
  ('solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp', NULL::text, 'SOL', 9, NULL::text),
  ('solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp', 'c6fa7af3bedbad3a3d65f36aabc97431b1bbe4c2d2f6e0e47ca60203452f5d61', 'USDC', 6, '06ddf6e1d765a193d9cbe146ceeb79ac1cb485ed5f5b37913a8cf5857eff00a9'),
  ('solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp', 'a5db61aaf1569da71234cc001c123012e983116784ef9ed958eb525f19fa8896', 'CASH', 6, '06ddf6e1ee758fde18425dbce46ccddab61afc4d83b90d27febdf928d8a18bfc'),
  ('solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1', NULL, 'SOL', 9, NULL),
  ('solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1', '3b442cb3912157f13a933d0134282d032b5ffecd01a2dbf1b7790608df002ea7', 'USDC', 6, '06ddf6e1d765a193d9cbe146ceeb79ac1cb485ed5f5b37913a8cf5857eff00a9')
) AS known (network, mint, symbol, decimals, program);

INSERT INTO tollwatch.totals_state (relation, folded_until)
VALUES ('payments', '2000-01-01 00:00+00'), ('api_requests', '2000-01-01 00:00+00'),
  ('audit_events', '2000-01-01 00:00+00');
