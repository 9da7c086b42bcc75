-- A large relation gets the index with its next partition: to build it on all would hold off whoever writes.
DO $$
DECLARE
  only_new text := '';
BEGIN
  IF (SELECT coalesce(sum(pg_table_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = 'tollwatch.{relation}'::regclass)
      > {large} THEN
    only_new := 'ONLY';
  END IF;
  EXECUTE format('CREATE INDEX {index} ON %s tollwatch.{relation} {of}', only_new);
END $$;
