-- What was bought from whom, per hour: settled payments, whoever told of them first. price: the average of the hour.
CREATE VIEW tollwatch.spend_by_service AS
SELECT project_id, bucket, agent_id, service, asset_id, CAST(sum(payments) AS bigint) AS payments, sum(amount) AS amount,
  sum(retry_amount) AS retry_amount, sum(amount) / nullif(sum(payments), 0) AS price
FROM tollwatch.payments_hourly
WHERE status = 'settled'
GROUP BY 1, 2, 3, 4, 5
