-- The view over a rollup of our own, with bounds of its rows and of the live tail that the revision chooses.
CREATE OR REPLACE VIEW tollwatch.{rollup} AS
SELECT * FROM tollwatch_internal.{rollup} WHERE {below}
UNION ALL
{live};
