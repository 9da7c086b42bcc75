-- Which database the rows on a spool belong to; a copy or a restore of it is the same.
ALTER TABLE tollwatch.schema_info ADD COLUMN installation uuid NOT NULL DEFAULT gen_random_uuid();
