-- Chunks that become columnstore from now on; those that are stay as they are. Sparse indexes are named, because those that
-- TimescaleDB makes of every index's columns cost 2 to 3 bytes a row, and a bloom filter over (ts, id) finds nothing that
-- ts alone does not. Samples of all wallets share segments: a wallet that is sampled every few minutes has far too few rows
-- a day for segments of its own, and min and max of wallet_id, which come with the order, find it as well.
ALTER TABLE tollwatch.payments SET (timescaledb.sparse_index = 'bloom(session_id)');
ALTER TABLE tollwatch.api_requests SET (timescaledb.sparse_index = 'bloom(request_id)');
ALTER TABLE tollwatch.audit_events SET (timescaledb.sparse_index = 'bloom(request_id)');
ALTER TABLE tollwatch.balance_samples SET (timescaledb.segmentby = 'project_id',
  timescaledb.orderby = 'wallet_id, asset_id, ts DESC', timescaledb.sparse_index = 'minmax(ts)');
