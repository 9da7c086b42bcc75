-- One rollup of our own: the materialised rows, and the view over them and the live tail. The live tail bounds what it
-- reads itself, because a filter on the bucket alone would prune no partition.
CREATE TABLE tollwatch_internal.{rollup} AS {nothing} WITH NO DATA;
CREATE INDEX {rollup}_key ON tollwatch_internal.{rollup} (project_id, bucket);
CREATE INDEX {rollup}_bucket ON tollwatch_internal.{rollup} (bucket);
CREATE VIEW tollwatch.{rollup} AS
SELECT * FROM tollwatch_internal.{rollup} WHERE bucket < {watermark}
UNION ALL
{live};
