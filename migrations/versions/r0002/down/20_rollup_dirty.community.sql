DROP TABLE tollwatch_internal.rollup_dirty;
