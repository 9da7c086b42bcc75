"""The parts of grafana-foundation-sdk that are used, and the queries that it lacks.

The SDK warns at import that schema v2 is to be preferred. Provisioning v2 from files is unreliable
(grafana/grafana#127928), so the classic schema is what we write.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        bargauge,
        common,
        dashboard,
        stat,
        statetimeline,
        table,
        timeseries,
    )
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models import common as common_model
    from grafana_foundation_sdk.models import dashboard as model

__all__ = [
    "CHOICES",
    "POSTGRES",
    "PROMETHEUS",
    "Builder",
    "JSONEncoder",
    "PromQuery",
    "SqlQuery",
    "bargauge",
    "common",
    "common_model",
    "dashboard",
    "datasource",
    "model",
    "stat",
    "statetimeline",
    "table",
    "timeseries",
]

POSTGRES = "grafana-postgresql-datasource"
PROMETHEUS = "prometheus"
CHOICES = {POSTGRES: "datasource", PROMETHEUS: "prometheus"}
"""The variable that chooses a datasource. One name each: links between dashboards carry variables over."""


def datasource(plugin: str) -> common_model.DataSourceRef:
    """The datasource that the person looking chose: one per project, for a reader sees one project."""
    return common_model.DataSourceRef(type_val=plugin, uid=f"${{{CHOICES[plugin]}}}")


@dataclass(frozen=True, kw_only=True)
class SqlQuery(Builder[Dataquery], Dataquery):
    """A query of the PostgreSQL datasource, and its own builder: the SDK has neither. `format` table or time_series."""

    sql: str
    format: str
    ref: str = "A"

    def build(self) -> Dataquery:
        """Itself: it never changes."""
        return self

    def to_json(self) -> dict[str, object]:
        """What the query editor of Grafana saves."""
        return {
            "datasource": datasource(POSTGRES),
            "editorMode": "code",
            "format": self.format,
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref,
        }


@dataclass(frozen=True, kw_only=True)
class PromQuery(Builder[Dataquery], Dataquery):
    """A range query, or an instant one, of the Prometheus datasource."""

    expr: str
    legend: str
    instant: bool
    ref: str = "A"

    def build(self) -> Dataquery:
        """Itself: it never changes."""
        return self

    def to_json(self) -> dict[str, object]:
        """What the query editor of Grafana saves."""
        return {
            "datasource": datasource(PROMETHEUS),
            "editorMode": "code",
            "expr": self.expr,
            "format": "table" if self.instant and not self.legend else "time_series",
            "instant": self.instant,
            "legendFormat": self.legend or "__auto",
            "range": not self.instant,
            "refId": self.ref,
        }
