"""docs/metrics.md and the code name the same metrics, with the same types and labels."""

from __future__ import annotations

import inspect
import re
import time
from types import ModuleType, SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from sqlalchemy.pool import QueuePool

import api.metrics
import collector.metrics
from api.exporter import OwnCollector
from api.exporter_snapshots import Snapshots, Taken
from api.exporter_text import described as fact_metrics
from store.deadlines import Deadlines
from store.edition import Edition
from tests.databases import ROOT
from tests.prometheus.files import documented

NOT_METRICS = {"tollwatch_read", "tollwatch_internal", "tollwatch_"}
"""Schemas and prefixes that the code spells like metrics."""


def described(name, kind, labels):
    return name + ("_total" if kind == "counter" else ""), {"type": kind, "labels": tuple(labels)}


def declared_in(module: ModuleType):
    """Everything that the classes of a module put on a registry."""
    given = {"registry": CollectorRegistry(), "clock": time.time}
    for _, kind in inspect.getmembers(module, inspect.isclass):
        wanted = inspect.signature(kind).parameters
        if kind.__module__ == module.__name__ and "registry" in wanted:
            kind(**{name: given[name] for name in wanted})
    for metric in set(given["registry"]._names_to_collectors.values()):
        yield described(metric._name, metric._type, metric._labelnames)


def exported(metrics: list[Metric]):
    for metric in metrics:
        yield described(metric.name, metric.type, metric._labelnames)


def own():
    """What the exporter makes afresh for each scrape."""
    pool = QueuePool(lambda: None)
    held = SimpleNamespace(edition=next(iter(Edition)), engine=SimpleNamespace(pool=pool))
    taken = Taken(facts=(), lags={"payments_hourly": 0.0}, is_up=True, seconds=0.0, at=0.0)
    return OwnCollector(held, Snapshots(None, most=1, deadlines=Deadlines(), interval=1.0), taken).collect()


def in_code():
    return dict(
        [*exported(fact_metrics()), *exported(own()), *declared_in(api.metrics), *declared_in(collector.metrics)]
    )


def test_every_metric_is_documented_as_it_is():
    listed = documented()
    for name, found in in_code().items():
        assert name in listed, f"docs/metrics.md lacks {name}"
        assert listed[name] == found, name


def test_every_documented_metric_is_in_the_code():
    code = in_code()
    for name in documented():
        assert name in code, f"nothing exports {name}"


@pytest.mark.parametrize("package", ["api", "collector"])
def test_no_metric_hides_elsewhere_in_the_source(package):
    listed = {name.removesuffix("_total") for name in documented()}
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in re.findall(r'"(tollwatch_[a-z_]*)"', path.read_text(encoding="utf-8")):
            assert name.removesuffix("_total") in listed or name in NOT_METRICS, f"{path.name}: {name}"


def test_every_row_says_what_bounds_it():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `tollwatch_")]
    assert len(rows) == len(documented()), "a row that is not read"
    for row in rows:
        name, kind, _, unit, meaning, bound = (cell.strip() for cell in row.strip("|").split("|"))
        assert kind in ("gauge", "counter", "histogram"), name
        assert unit, name
        assert meaning, name
        assert bound, name
