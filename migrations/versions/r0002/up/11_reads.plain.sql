-- Attempts that an open breaker held back are few among all: what they would have cost is looked up for each.
CREATE INDEX requests_hourly_skipped ON tollwatch_internal.requests_hourly (project_id, bucket) WHERE outcome = 'skipped_open';
