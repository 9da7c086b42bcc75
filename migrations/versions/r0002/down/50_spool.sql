ALTER TABLE tollwatch.schema_info DROP COLUMN installation;
