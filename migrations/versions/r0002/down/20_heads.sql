DROP TABLE tollwatch_internal.prune_state;
ALTER TABLE tollwatch.payment_heads DROP COLUMN last_ts;
