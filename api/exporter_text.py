"""The facts of snapshots as exposition text, each family bounded, written again only where something changed.

Lines are written here, and not by prometheus_client, which takes ten times as long over a value of its own for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.exporter_families import FAMILIES, Family, Labels
from api.exporter_floors import Floors
from api.exporter_values import Histogram
from store.metrics_snapshot import Snapshot
from store.metrics_totals import breathing

DROPPED = "tollwatch_exporter_series_dropped"
HELD = "tollwatch_exporter_series_held"


@dataclass
class _Written:
    """What was written of a family, from which rows (None: nothing yet), and what it was told no lower than."""

    rows: object = None
    text: bytes = b""
    series: int = 0
    floors: Floors = field(default_factory=Floors)


class FactText:
    """Writes one scope's snapshots, at most `most` series of each family; what is beyond is counted. Totals keep to
    what was told of them last. For a thread: it leaves the interpreter to others now and then. Not for two at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._written = {family.name: _Written() for family in FAMILIES}

    def write(self, snapshot: Snapshot) -> tuple[bytes, ...]:
        """The exposition, in pieces: the families, then how many series each left out and how many are held."""
        pieces = []
        dropped = {}
        for family in FAMILIES:
            written = self._written[family.name]
            rows = family.rows(snapshot)
            # What is held is looked at again until it is let go.
            if written.rows is not rows or written.floors.held:
                self._write(family, rows, written)
            dropped[family.exposed] = family.found(snapshot) - written.series
            pieces.append(written.text)
        held = sum(written.floors.held for written in self._written.values())
        return (*pieces, generate_latest(_Told(_dropped(dropped), _held(held))))

    def _write(self, family: Family, rows: Any, written: _Written) -> None:
        told: set[Labels] = set()
        lines = [_header(family)]
        written.floors.begin()
        for labels, read in breathing(family.series(rows)):
            if (len(told) + 1) * family.width > self._most:
                break
            # The same series twice would make Prometheus refuse the whole scrape.
            if labels not in told:
                told.add(labels)
                value = written.floors.value(labels, read) if family.is_total else read
                lines.append(_lines(family, labels, value))
        written.floors.end()
        written.rows, written.text, written.series = rows, "".join(lines).encode(), len(told) * family.width


def described() -> Iterator[Metric]:
    """Every metric of facts without series."""
    yield from (family.empty() for family in FAMILIES)
    yield _dropped({})
    yield _held(0)


def _header(family: Family) -> str:
    return f"# HELP {family.exposed} {family.documentation}\n# TYPE {family.exposed} {family.kind}\n"


def _lines(family: Family, labels: Labels, value: float | Histogram) -> str:
    braced = family.template % labels
    if braced.count('"') != 2 * len(labels) or "\\" in braced or "\n" in braced:
        braced = family.template % tuple(map(_escaped, labels))
    if not isinstance(value, Histogram):
        return f"{family.exposed}{{{braced}}} {value!r}\n"
    name = family.name
    lines = [f'{name}_bucket{{{braced},le="{le}"}} {number!r}\n' for le, number in value.buckets]
    return (
        f"{''.join(lines)}{name}_count{{{braced}}} {value.buckets[-1][1]!r}\n{name}_sum{{{braced}}} {value.total!r}\n"
    )


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Told(Collector):
    """Metrics that are there already."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> tuple[Metric, ...]:
        return self._metrics


def _dropped(numbers: Mapping[str, int]) -> Metric:
    metric = GaugeMetricFamily(
        DROPPED, "Series left out, at least: beyond TOLLWATCH_MAX_SERIES, or ambiguous.", labels=["family"]
    )
    for name, number in numbers.items():
        metric.add_metric([name], number)
    return metric


def _held(number: int) -> Metric:
    return GaugeMetricFamily(
        HELD, "Totals that were read lower than they were told before, and are told as then.", number
    )
