COMMENT ON TABLE tollwatch.api_keys IS NULL;
ALTER TABLE tollwatch.api_keys
  DROP CONSTRAINT api_keys_bytes_per_s_positive_check,
  DROP CONSTRAINT api_keys_events_per_s_positive_check,
  DROP CONSTRAINT api_keys_prefix_key,
  DROP COLUMN replaced_by,
  DROP COLUMN bytes_per_s;
ALTER TABLE tollwatch.api_keys RENAME COLUMN events_per_s TO rate_limit;
