"""The facts of one snapshot as metrics, each family bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.exporter_families import FAMILIES, Family, Labels
from api.exporter_values import Histogram
from store.metrics_snapshot import Snapshot

DROPPED = "tollwatch_exporter_series_dropped"


class FactCollector(Collector):
    """Every family of one snapshot, at most `most` series each; what is beyond is counted."""

    def __init__(self, snapshot: Snapshot, most: int) -> None:
        self._snapshot = snapshot
        self._most = most

    def describe(self) -> Iterator[Metric]:
        """Metrics without series: what a registry asks for at registration, in place of `collect`."""
        yield from (family.empty() for family in FAMILIES)
        yield _dropped({})

    def collect(self) -> Iterator[Metric]:
        """The metrics, then how many series each left out."""
        dropped = {}
        for family in FAMILIES:
            metric, told = self._filled(family)
            dropped[family.exposed] = family.found(self._snapshot) - told
            yield metric
        yield _dropped(dropped)

    def _filled(self, family: Family) -> tuple[Metric, int]:
        metric: Any = family.empty()
        told: set[Labels] = set()
        for labels, value in family.series(self._snapshot):
            if (len(told) + 1) * family.width > self._most:
                break
            # The same series twice would make Prometheus refuse the whole scrape.
            if labels not in told:
                told.add(labels)
                if isinstance(value, Histogram):
                    metric.add_metric(labels, value.buckets, value.total)
                else:
                    metric.add_metric(labels, value)
        return metric, len(told) * family.width


def _dropped(numbers: Mapping[str, int]) -> Metric:
    metric = GaugeMetricFamily(
        DROPPED, "Series left out: beyond TOLLWATCH_MAX_SERIES, or ambiguous.", labels=["family"]
    )
    for name, number in numbers.items():
        metric.add_metric([name], number)
    return metric
