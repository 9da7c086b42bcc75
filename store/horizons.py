"""Horizons: the time limits in a row's life, and the order that they must keep.

Per rollup (docs/architecture.md, Horizons):

    late_window + spool_max_age + 2 × bucket + schedule_interval
        ≤ refresh start_offset < columnstore_after < drop_after − chunk_interval

Otherwise a late row would fall outside the refresh, or retention would drop raw rows that a refresh still reads, which
silently destroys the rollup.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from store.errors import HorizonError
from store.settings import Settings

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A partitioned relation: how its partitions are cut, and which setting keeps it."""

    name: str
    chunk_interval: timedelta
    retention: str


@dataclass(frozen=True, kw_only=True)
class Rollup:
    """An hourly aggregate of a relation's facts, or (with `hourly`) one of the hours of another rollup."""

    name: str
    relation: str
    bucket: timedelta = HOUR
    hourly: str | None = None


RELATIONS = (
    Relation(name="balance_samples", chunk_interval=DAY, retention="retain_samples"),
    Relation(name="api_requests", chunk_interval=DAY, retention="retain_requests"),
    Relation(name="queue_events", chunk_interval=DAY, retention="retain_queue"),
    Relation(name="payments", chunk_interval=7 * DAY, retention="retain_payments"),
    Relation(name="audit_events", chunk_interval=7 * DAY, retention="retain_audit"),
)
ROLLUPS = (
    Rollup(name="payments_hourly", relation="payments"),
    Rollup(name="requests_hourly", relation="api_requests"),
    Rollup(name="request_latency_hourly", relation="api_requests"),
    Rollup(name="balances_hourly", relation="balance_samples"),
    Rollup(name="audit_hourly", relation="audit_events"),
    Rollup(name="service_payments_hourly", relation="payments", hourly="payments_hourly"),
    Rollup(name="service_requests_hourly", relation="api_requests", hourly="requests_hourly"),
    Rollup(name="service_latency_hourly", relation="api_requests", hourly="request_latency_hourly"),
    Rollup(name="payments_daily", relation="payments", bucket=DAY, hourly="payments_hourly"),
    Rollup(name="requests_daily", relation="api_requests", bucket=DAY, hourly="requests_hourly"),
    Rollup(name="request_latency_daily", relation="api_requests", bucket=DAY, hourly="request_latency_hourly"),
    Rollup(name="balances_daily", relation="balance_samples", bucket=DAY, hourly="balances_hourly"),
    Rollup(name="audit_daily", relation="audit_events", bucket=DAY, hourly="audit_hourly"),
    Rollup(name="service_payments_daily", relation="payments", bucket=DAY, hourly="service_payments_hourly"),
    Rollup(name="service_requests_daily", relation="api_requests", bucket=DAY, hourly="service_requests_hourly"),
    Rollup(name="service_latency_daily", relation="api_requests", bucket=DAY, hourly="service_latency_hourly"),
)
"""What a rollup is made of comes before it, and is refreshed before it. Those of services leave the agents out:
questions about a whole project read hundreds of rows an hour there, and not as many as there are agents.
"""


def retention_of(relation: Relation, settings: Settings) -> timedelta:
    """How long rows of a relation are kept."""
    value: timedelta = getattr(settings, relation.retention)
    return value


def check(settings: Settings) -> None:
    """Raises HorizonError: which settings contradict each other, by how much, and what would do."""
    relations = {relation.name: relation for relation in RELATIONS}
    for rollup in ROLLUPS:
        _check_rollup(rollup, relations[rollup.relation], settings)
    longest = max(retention_of(relation, settings) for relation in RELATIONS)
    if settings.retain_rollups < longest:
        raise HorizonError(
            f"TOLLWATCH_RETAIN_ROLLUPS ({settings.retain_rollups}) must be at least the longest retention of facts "
            f"({longest})"
        )


def _check_rollup(rollup: Rollup, relation: Relation, settings: Settings) -> None:
    reach = settings.late_window + settings.spool_max_age + 2 * rollup.bucket + settings.rollup_interval
    drop_after = retention_of(relation, settings)
    if reach > settings.rollup_window:
        raise HorizonError(
            f"{rollup.name}: TOLLWATCH_ROLLUP_WINDOW ({settings.rollup_window}) must be at least late_window + "
            f"spool_max_age + 2 buckets + rollup_interval = {reach}, or late rows would never be rolled up"
        )
    if settings.rollup_window >= settings.columnstore_after:
        raise HorizonError(
            f"{rollup.name}: TOLLWATCH_COLUMNSTORE_AFTER ({settings.columnstore_after}) must be longer than "
            f"TOLLWATCH_ROLLUP_WINDOW ({settings.rollup_window})"
        )
    if settings.columnstore_after >= drop_after - relation.chunk_interval:
        raise HorizonError(
            f"{rollup.name}: TOLLWATCH_{relation.retention.upper()} ({drop_after}) must be longer than "
            f"TOLLWATCH_COLUMNSTORE_AFTER ({settings.columnstore_after}) by more than one partition "
            f"({relation.chunk_interval}), or retention would take rows that a refresh still reads"
        )


def as_record(settings: Settings) -> dict[str, float]:
    """What policies hang on, horizons in seconds: schema_info keeps it to notice that they must be made again."""
    names = [relation.retention for relation in RELATIONS]
    names += ["rollup_window", "rollup_interval", "columnstore_after", "retain_rollups"]
    # A rollup that is new wants its policies too.
    return {name: getattr(settings, name).total_seconds() for name in names} | {"rollups": float(len(ROLLUPS))}
