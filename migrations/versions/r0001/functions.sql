-- Precedence of a payment's transitions. Final states (failed, settled, reverted) outrank the others; among them the
-- chain outranks a facilitator, a facilitator an agent; then the status decides. See docs/decisions/0004.
CREATE FUNCTION tollwatch.payment_rank(status text, origin text) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN status IN ('failed', 'settled', 'reverted') THEN
  100
  + 10 * CASE origin WHEN 'chain' THEN 3 WHEN 'facilitator' THEN 2 WHEN 'agent' THEN 1 ELSE 0 END
  + CASE status WHEN 'reverted' THEN 3 WHEN 'settled' THEN 2 ELSE 1 END
ELSE
  10 * CASE status WHEN 'unknown' THEN 4 WHEN 'verified' THEN 3 WHEN 'retrying' THEN 2 ELSE 1 END
  + CASE origin WHEN 'chain' THEN 3 WHEN 'facilitator' THEN 2 WHEN 'agent' THEN 1 ELSE 0 END
END;

-- One bit per status, for payment_heads.told.
CREATE FUNCTION tollwatch.payment_bit(status text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE status WHEN 'unknown' THEN 1 WHEN 'pending' THEN 2 WHEN 'retrying' THEN 4 WHEN 'verified' THEN 8
  WHEN 'failed' THEN 16 WHEN 'settled' THEN 32 ELSE 64 END;

-- Bitcoin's base58, as Solana writes keys and signatures.
CREATE FUNCTION tollwatch_read.base58(value bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  alphabet CONSTANT text := '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
  n numeric := 0;
  digits text := '';
BEGIN
  FOR i IN 0 .. length(value) - 1 LOOP
    n := n * 256 + get_byte(value, i);
  END LOOP;
  WHILE n > 0 LOOP
    digits := substr(alphabet, (n % 58)::int + 1, 1) || digits;
    n := div(n, 58);
  END LOOP;
  FOR i IN 0 .. length(value) - 1 LOOP
    EXIT WHEN get_byte(value, i) <> 0;
    digits := '1' || digits;
  END LOOP;
  RETURN digits;
END $$;

-- A quantile (0 to 1) of latency in milliseconds from rollup rows: latency_quantile(0.95, array_agg(latency_bucket),
-- array_agg(requests)). Buckets are merged, and the value interpolated inside its bucket on the logarithmic scale.
CREATE FUNCTION tollwatch_read.latency_quantile(quantile float8, buckets integer[], counts bigint[]) RETURNS float8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
  SELECT CASE WHEN bucket < 0 THEN 0 ELSE power(10, (bucket + (quantile * total - (upto - n)) / n) / 20) END
  FROM (
    SELECT bucket, n::float8 AS n, sum(n) OVER (ORDER BY bucket)::float8 AS upto, sum(n) OVER ()::float8 AS total
    FROM (SELECT bucket, sum(n) AS n FROM unnest(buckets, counts) AS cell (bucket, n) GROUP BY bucket) merged
  ) running
  WHERE upto >= quantile * total
  ORDER BY bucket
  LIMIT 1;
END;
