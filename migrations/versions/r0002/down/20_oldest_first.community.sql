-- The first schema is served by oldest first as well: it stays.
SELECT;
