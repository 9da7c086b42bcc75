-- As it was: chunks that are columnstore already stay as they are.
ALTER TABLE tollwatch.payments RESET (timescaledb.sparse_index);
ALTER TABLE tollwatch.api_requests RESET (timescaledb.sparse_index);
ALTER TABLE tollwatch.audit_events RESET (timescaledb.sparse_index);
ALTER TABLE tollwatch.balance_samples RESET (timescaledb.sparse_index);
ALTER TABLE tollwatch.balance_samples SET (timescaledb.segmentby = 'project_id, wallet_id, asset_id', timescaledb.orderby = 'ts DESC');
