-- As the first schema has them.
ALTER FUNCTION tollwatch.payment_rank(text, text) STRICT;
ALTER FUNCTION tollwatch.payment_bit(text) STRICT;
