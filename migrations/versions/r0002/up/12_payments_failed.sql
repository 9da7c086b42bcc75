-- An agent's payments that went wrong are few among all of an agent: a list of them, and no other, has an index, which a
-- payment that goes well does not pay for. A large relation gets it with its next partition: to build it on all would hold
-- off whoever writes.
DO $$
DECLARE
  only_new text := '';
BEGIN
  IF (SELECT coalesce(sum(pg_table_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = 'tollwatch.payments'::regclass)
      > 256 * 1024 ^ 2 THEN
    only_new := 'ONLY';
  END IF;
  EXECUTE format('CREATE INDEX payments_failed_idx ON %s tollwatch.payments (project_id, agent_id, status, ts, id)'
    ' WHERE status IN (''failed'', ''reverted'', ''unknown'', ''retrying'')', only_new);
END $$;
