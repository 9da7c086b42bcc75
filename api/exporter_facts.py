"""The facts of one snapshot as metrics, each family bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.exporter_families import FAMILIES, Family, Labels
from api.exporter_floors import Floors
from api.exporter_values import Histogram
from store.metrics_snapshot import Snapshot

DROPPED = "tollwatch_exporter_series_dropped"
HELD = "tollwatch_exporter_series_held"


class FactCollector(Collector):
    """Every family of one snapshot, at most `most` series each; what is beyond is counted. Totals keep to `floors`."""

    def __init__(self, snapshot: Snapshot, most: int, floors: Floors | None = None) -> None:
        self._snapshot = snapshot
        self._most = most
        self._floors = Floors() if floors is None else floors

    def describe(self) -> Iterator[Metric]:
        """Metrics without series: what a registry asks for at registration, in place of `collect`."""
        yield from (family.empty() for family in FAMILIES)
        yield _dropped({})
        yield _held(0)

    def collect(self) -> Iterator[Metric]:
        """The metrics, then how many series each left out."""
        dropped = {}
        self._floors.begin()
        for family in FAMILIES:
            metric, told = self._filled(family)
            dropped[family.exposed] = family.found(self._snapshot) - told
            yield metric
        yield _dropped(dropped)
        yield _held(self._floors.held)
        self._floors.end()

    def _filled(self, family: Family) -> tuple[Metric, int]:
        metric: Any = family.empty()
        told: set[Labels] = set()
        for labels, read in family.series(self._snapshot):
            if (len(told) + 1) * family.width > self._most:
                break
            # The same series twice would make Prometheus refuse the whole scrape.
            if labels not in told:
                told.add(labels)
                value = self._floors.value(family.name, labels, read) if family.is_total else read
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


def _held(number: int) -> Metric:
    return GaugeMetricFamily(
        HELD, "Totals that were read lower than they were told before, and are told as then.", number
    )
