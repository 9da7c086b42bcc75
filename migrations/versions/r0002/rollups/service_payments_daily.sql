-- Payments per day (UTC) by service, from the hours.
SELECT
  {time_bucket}(INTERVAL '1 day', bucket) AS bucket,
  project_id, asset_id, service, status, origin,
  sum(payments)::bigint AS payments,
  sum(duplicates)::bigint AS duplicates,
  sum(amount) AS amount,
  sum(retry_amount) AS retry_amount,
  sum(fee_lamports) AS fee_lamports,
  sum(retries)::bigint AS retries
FROM tollwatch.service_payments_hourly
WHERE {range}
GROUP BY 1, 2, 3, 4, 5, 6
