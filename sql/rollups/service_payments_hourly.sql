-- Payments per hour by service, whoever paid: what a question about the whole project reads. From the hours of all agents.
SELECT
  {time_bucket}(INTERVAL '1 hour', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.payments_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4, 5, 6
