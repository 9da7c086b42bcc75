DROP INDEX tollwatch.payments_failed_idx;
