"""A dashboard as a value: its variables, annotation, links and panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana.named import ALL_AGENTS, statement
from grafana.panels import Panel, Section, build_panel, build_section, place
from grafana.sdk import CHOICES, POSTGRES, SqlQuery, dashboard, datasource, model

TAG = "tollwatch"
"""All dashboards have it; their links find each other by it."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A choice at the top: `query` is `file.name` of SQL, or PromQL. Several at once unless it says otherwise.

    `every`: what stands for all of them, as it is written in a query; None: each of them, in a list.
    """

    name: str
    description: str
    query: str
    several: bool = True
    at_range: bool = False
    every: str | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard. `plugin` is the only kind of datasource on it."""

    uid: str
    title: str
    description: str
    plugin: str
    since: str
    refresh: str
    variables: Sequence[Variable]
    items: Sequence[Panel | Section]


NETWORK = Variable(
    name="network",
    description="One network at a time: money of two networks is never added up.",
    query="variables.network",
    several=False,
)
AGENT = Variable(name="agent", description="Agents, archived ones too.", query="variables.agent", every=ALL_AGENTS)
ASSET = Variable(name="asset", description="Assets held or paid in.", query="variables.asset", at_range=True)
SERVICE = Variable(
    name="service", description="Paid origins within the range.", query="variables.service", at_range=True
)
COMPONENT = Variable(name="component", description="What a circuit breaker is held for.", query="variables.component")


def build(board: Board) -> model.Dashboard:
    """The SDK's dashboard."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .timezone("browser")
        .time(f"now-{board.since}", "now")
        .refresh(board.refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .links([_links()])
        .with_variable(_source(board.plugin))
    )
    for variable in board.variables:
        built.with_variable(_variable(variable, board.plugin))
    if board.plugin == POSTGRES:
        built.annotation(_Incidents())
    for item, at in place(board.items):
        if isinstance(item, Section):
            built.with_row(build_section(item, at))
        else:
            built.with_panel(build_panel(item, at))
    made = built.build()
    _show(made)
    return made


def _show(made: model.Dashboard) -> None:
    """The SDK hides links and annotations in a menu; they belong where they are seen."""
    placed: Any
    for placed in [*(made.links or []), *(made.annotations.list_val or [])]:
        placed.placement = None


def _links() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Tollwatch")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(True)
        .include_vars(True)
    )


def _source(plugin: str) -> dashboard.DatasourceVariable:
    label = "Project" if plugin == POSTGRES else "Prometheus"
    return dashboard.DatasourceVariable(CHOICES[plugin]).label(label).type(plugin).allow_custom_value(False)


def _variable(variable: Variable, plugin: str) -> dashboard.QueryVariable:
    query = statement(variable.query) if plugin == POSTGRES else variable.query
    sooner, later = model.VariableRefresh.ON_DASHBOARD_LOAD, model.VariableRefresh.ON_TIME_RANGE_CHANGED
    built = (
        dashboard.QueryVariable(variable.name)
        .label(variable.name.capitalize())
        .description(variable.description)
        .query(query)
        .datasource(datasource(plugin))
        .refresh(later if variable.at_range else sooner)
        .allow_custom_value(False)
    )
    if variable.several:
        every = model.VariableOption(selected=True, text=["All"], value=["$__all"])
        built.multi(True).include_all(True).current(every)
        if variable.every is not None:
            built.all_value(variable.every)
    return built


class _Incidents(dashboard.AnnotationQuery):
    """What explains a bend in a curve."""

    def __init__(self) -> None:
        super().__init__()
        query: Any = SqlQuery(sql=statement("variables.incidents"), format="table", ref="Incidents")
        self.name("Incidents").datasource(datasource(POSTGRES)).enable(True).icon_color("orange").target(query)
