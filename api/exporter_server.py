"""What the exporter tells about the server behind the database. Absent while the database is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from store.server import ServerFigures

Samples = Mapping[tuple[str, ...], float]
"""Values by label values."""


def own_gauge(name: str, documentation: str, samples: Samples, *labels: str) -> Metric:
    """A gauge of this process, without its prefix."""
    family = GaugeMetricFamily(f"tollwatch_{name}", documentation, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def server_families(figures: ServerFigures | None) -> Iterator[Metric]:
    """Partitions, jobs, settings, sessions, size, mishaps."""
    headroom = _by(figures.headroom) if figures else {}
    yield own_gauge("partition_headroom_seconds", "How long partitions made ahead last (plain).", headroom, "relation")
    jobs = _by(figures.jobs) if figures else {}
    yield own_gauge("db_jobs", "TimescaleDB's jobs on our relations, by how they are (community).", jobs, "state")
    unfit = _by(figures.unfit) if figures else {}
    yield own_gauge("db_setting_unfit", "1: a setting of the server that the log warns of.", unfit, "setting")
    for name, documentation, read in _GAUGES:
        yield own_gauge(f"db_{name}", documentation, {} if figures is None else {(): float(read(figures))})
    for name, documentation, read in _COUNTERS:
        family = CounterMetricFamily(f"tollwatch_db_{name}", documentation)
        if figures is not None:
            family.add_metric((), float(read(figures)))
        yield family


Read = Callable[[ServerFigures], float]
_GAUGES: tuple[tuple[str, str, Read], ...] = (
    ("connections", "Sessions of the server.", lambda figures: figures.connections),
    ("connections_max", "Sessions that the server allows.", lambda figures: figures.max_connections),
    ("oldest_transaction_seconds", "Age of the oldest transaction.", lambda figures: figures.oldest_transaction_s),
    ("size_bytes", "Size of the database; measured once a minute.", lambda figures: figures.bytes),
)
_COUNTERS: tuple[tuple[str, str, Read], ...] = (
    ("deadlocks", "Deadlocks in the database.", lambda figures: figures.deadlocks),
    ("temp_bytes", "Bytes that queries wrote to temporary files.", lambda figures: figures.temp_bytes),
)


def _by(values: Mapping[str, float]) -> Samples:
    return {(name,): float(value) for name, value in values.items()}
