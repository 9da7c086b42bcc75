"""Every query, rollup, view and policy, as named and described SQL. See `store.named_sql`."""
