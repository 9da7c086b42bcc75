-- When a payment was last told of, so that a head can be pruned once its facts have expired. Heads that are there already
-- count as told of now, and so do those of a writer of the first schema that is still at work. It rewrites no row.
ALTER TABLE tollwatch.payment_heads ADD COLUMN last_ts TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now();

CREATE TABLE tollwatch_internal.prune_state (
  head text COLLATE "C" PRIMARY KEY,
  block bigint NOT NULL
);
COMMENT ON TABLE tollwatch_internal.prune_state IS 'Where the next pruning run of each table of heads goes on: the number of its block.';
INSERT INTO tollwatch_internal.prune_state (head, block)
VALUES ('payment_heads', 0), ('payment_settlements', 0), ('queue_heads', 0);
