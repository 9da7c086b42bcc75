-- Keys have limits of their own, know what replaced them, and are named by their prefix. Few rows: locks are short.
ALTER TABLE tollwatch.api_keys RENAME COLUMN rate_limit TO events_per_s;
ALTER TABLE tollwatch.api_keys
  ADD COLUMN bytes_per_s BIGINT,
  ADD COLUMN replaced_by INTEGER,
  ADD CONSTRAINT api_keys_replaced_by_fkey FOREIGN KEY (replaced_by) REFERENCES tollwatch.api_keys (id),
  ADD CONSTRAINT api_keys_prefix_key UNIQUE (prefix),
  ADD CONSTRAINT api_keys_events_per_s_positive_check CHECK (events_per_s > 0),
  ADD CONSTRAINT api_keys_bytes_per_s_positive_check CHECK (bytes_per_s > 0);
COMMENT ON TABLE tollwatch.api_keys IS
  'A limit that is NULL: the process''s default. The hash is SHA-256 of the whole key, which is kept nowhere.';
