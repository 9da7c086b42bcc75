-- Hours that a backfill touched and that no refresh policy looks at any more; the own-rollup editions have it since 0001.
CREATE TABLE tollwatch_internal.rollup_dirty (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  relation text COLLATE "C" NOT NULL,
  bucket timestamptz NOT NULL
);
CREATE INDEX rollup_dirty_idx ON tollwatch_internal.rollup_dirty (relation, bucket);
COMMENT ON TABLE tollwatch_internal.rollup_dirty IS 'Hours that a backfill touched, until they are refreshed.';
