-- Community only. A segment wants a thousand rows or more per chunk: one wallet's samples of a day, or a whole project.
ALTER TABLE tollwatch.balance_samples SET (timescaledb.enable_columnstore,
  timescaledb.segmentby = 'project_id, wallet_id, asset_id', timescaledb.orderby = 'ts DESC');
ALTER TABLE tollwatch.api_requests SET (timescaledb.enable_columnstore,
  timescaledb.segmentby = 'project_id', timescaledb.orderby = 'ts DESC, id DESC');
ALTER TABLE tollwatch.payments SET (timescaledb.enable_columnstore,
  timescaledb.segmentby = 'project_id', timescaledb.orderby = 'ts DESC, id DESC');
ALTER TABLE tollwatch.audit_events SET (timescaledb.enable_columnstore,
  timescaledb.segmentby = 'project_id', timescaledb.orderby = 'ts DESC, id DESC');
ALTER TABLE tollwatch.queue_events SET (timescaledb.enable_columnstore,
  timescaledb.segmentby = 'project_id', timescaledb.orderby = 'ts DESC, id DESC');
