-- Both are a CASE over columns that are never null. STRICT kept PostgreSQL from putting it in the place of the call: it
-- ran, and since version 18 planned, a statement for every payment, a third of what the database did for one.
ALTER FUNCTION tollwatch.payment_rank(text, text) CALLED ON NULL INPUT;
ALTER FUNCTION tollwatch.payment_bit(text) CALLED ON NULL INPUT;
