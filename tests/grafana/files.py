"""The committed dashboards, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from grafana.generate import BOARDS, DASHBOARDS
from grafana.sdk import POSTGRES


def load(name):
    """One dashboard, by the name of its file."""
    return json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))


def panels(board):
    """Its panels, headings left out."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(panel):
    """The queries of one panel."""
    return panel["targets"]


def datasources(found) -> Iterator[dict]:
    """Every reference to a datasource, at any depth."""
    if isinstance(found, dict):
        if "uid" in (chosen := found.get("datasource") or {}):
            yield chosen
        for value in found.values():
            yield from datasources(value)
    elif isinstance(found, list):
        for value in found:
            yield from datasources(value)


@dataclass(frozen=True, kw_only=True)
class SqlOnPanel:
    """One statement, and the panel that shows its rows; `variables` in the order in which they are asked for."""

    board: str
    panel: dict
    sql: str
    format: str
    variables: list[dict]

    @property
    def id(self) -> str:
        return f"{self.board}-{self.panel['title']}".replace(" ", "_")


def sql_on_panels() -> list[SqlOnPanel]:
    """Every statement of every dashboard on PostgreSQL, annotations included."""
    found = []
    for name in BOARDS:
        board = load(name)
        variables = [variable for variable in board["templating"]["list"] if variable["type"] == "query"]
        annotated = [
            note | {"title": note["name"], "type": "annotation"} for note in board["annotations"].get("list", [])
        ]
        places = [(panel, target) for panel in panels(board) for target in targets(panel)]
        places += [(note, note["target"]) for note in annotated]
        found += [
            SqlOnPanel(board=name, panel=panel, sql=target["rawSql"], format=target["format"], variables=variables)
            for panel, target in places
            if target["datasource"]["type"] == POSTGRES
        ]
    return found


def prom_expressions() -> list[str]:
    """Every PromQL expression, with what Grafana puts in place of its variables."""
    exprs = [
        target["expr"]
        for name in BOARDS
        for panel in panels(load(name))
        for target in targets(panel)
        if "expr" in target
    ]
    for variable, value in (("$__rate_interval", "5m"), ("$__range", "6h"), ("$instance", ".+")):
        exprs = [expr.replace(variable, value) for expr in exprs]
    return exprs
