-- One agent's rows, newest first: a list of them read everybody's. A large relation gets the index with its next partition:
-- to build it on all would hold off whoever writes.
DO $$
DECLARE
  only_new text := '';
BEGIN
  IF (SELECT coalesce(sum(pg_table_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = 'tollwatch.{relation}'::regclass)
      > {large} THEN
    only_new := 'ONLY';
  END IF;
  EXECUTE format('CREATE INDEX {relation}_agent_idx ON %s tollwatch.{relation} (project_id, agent_id, ts)', only_new);
END $$;
