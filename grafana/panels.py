"""Panels as values, and how each kind of them looks. Ids are given by hand: links to a panel outlive its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grafana.looks import Properties
from grafana.named import statement
from grafana.sdk import (
    POSTGRES,
    PROMETHEUS,
    PromQuery,
    SqlQuery,
    bargauge,
    common,
    common_model,
    dashboard,
    datasource,
    model,
    stat,
    statetimeline,
    table,
    timeseries,
)

COLUMNS = 24
"""Width of Grafana's grid."""
POINTS = 720
"""Most points of a series: `$__interval` is the range through this, and reaches a minute at twelve hours."""

Query = SqlQuery | PromQuery
Step = tuple[float | None, str]
"""From this value on, that colour; None: from the lowest."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading over the panels that follow."""

    id: int
    title: str
    width: int = COLUMNS
    height: int = 1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. `description` says what to do about what it shows. `columns` go by name, `series` by /regex/."""

    id: int
    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    width: int
    height: int = 8
    unit: str = "short"
    decimals: int | None = None
    maximum: float | None = None
    steps: Sequence[Step] = ((None, "green"),)
    interval: str | None = None
    columns: Mapping[str, Properties] = field(default_factory=dict)
    series: Mapping[str, Properties] = field(default_factory=dict)


def sql_panel(kind: str, names: str, **more: Any) -> Panel:
    """A panel over statements of `queries/`, written `file.name file.name`."""
    formatted = "time_series" if kind in {"lines", "steps", "bars", "timeline"} else "table"
    queries = [
        SqlQuery(sql=statement(path), format=formatted, ref=ref)
        for ref, path in zip("ABCDEF", names.split(), strict=False)
    ]
    return Panel(kind=kind, queries=queries, **more)


def prom_panel(kind: str, *exprs: str, legends: Sequence[str] = (), **more: Any) -> Panel:
    """A panel over PromQL; `legends` in the order of the expressions."""
    instant = kind in {"stat", "table"}
    named = [*legends, *[""] * (len(exprs) - len(legends))]
    queries = [
        PromQuery(expr=expr, legend=legend, instant=instant, ref=ref)
        for ref, expr, legend in zip("ABCDEF", exprs, named, strict=False)
    ]
    return Panel(kind=kind, queries=queries, **more)


def hourly(panel: Panel) -> Panel:
    """The panel, with intervals of an hour and more: it shows a rollup."""
    return replace(panel, interval="1h")


def place(items: Sequence[Panel | Section]) -> Iterator[tuple[Panel | Section, model.GridPos]]:
    """Each item with its place: from left to right, and on to the next line where it does not fit."""
    x = y = line = 0
    for item in items:
        if x + item.width > COLUMNS:
            x, y, line = 0, y + line, 0
        yield item, model.GridPos(h=item.height, w=item.width, x=x, y=y)
        x, line = x + item.width, max(line, item.height)


def build_section(section: Section, at: model.GridPos) -> dashboard.Row:
    """A row that is always open."""
    return dashboard.Row(section.title).id(section.id).collapsed(False).grid_pos(at)


def build_panel(panel: Panel, at: model.GridPos) -> Any:
    """The SDK's builder of a panel."""
    built: Any = _KINDS[panel.kind](panel)
    plugin = POSTGRES if isinstance(panel.queries[0], SqlQuery) else PROMETHEUS
    built.id(panel.id).title(panel.title).description(panel.description).grid_pos(at).datasource(datasource(plugin))
    built.targets(list(panel.queries)).unit(panel.unit).no_value("–").max_data_points(POINTS).thresholds(_steps(panel))
    if panel.decimals is not None:
        built.decimals(panel.decimals)
    if panel.maximum is not None:
        built.min(0).max(panel.maximum)
    if panel.interval is not None:
        built.interval(panel.interval)
    for name, properties in panel.columns.items():
        built.override_by_name(name, list(properties))
    for pattern, properties in panel.series.items():
        built.override_by_regexp(pattern, list(properties))
    return built


def _steps(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(value=value, color=color) for value, color in panel.steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _reduce(panel: Panel) -> common.ReduceDataOptions:
    """SQL answers with one row per value; Prometheus with one series per value."""
    return common.ReduceDataOptions().values(isinstance(panel.queries[0], SqlQuery)).calcs(["lastNotNull"]).fields("")


def _stat(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(_reduce(panel))
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )


def _gauge(panel: Panel) -> bargauge.Panel:
    return (
        bargauge.Panel()
        .reduce_options(_reduce(panel))
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .min(0)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )


def _series(calcs: list[str]) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.TABLE)
        .placement(common_model.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(calcs)
    )
    tooltip = common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI)
    return timeseries.Panel().legend(legend).tooltip(tooltip).axis_soft_min(0)


def _lines(_panel: Panel) -> timeseries.Panel:
    """Points are drawn where they stand alone; gaps stay gaps up to three hours."""
    return (
        _series(["lastNotNull", "max"])
        .draw_style(common_model.GraphDrawStyle.LINE)
        .line_width(1)
        .show_points(common_model.VisibilityMode.AUTO)
        .span_nulls(3 * 3600 * 1000)
    )


def _held(panel: Panel) -> timeseries.Panel:
    """A value that holds until the next one."""
    return _lines(panel).line_interpolation(common_model.LineInterpolation.STEP_AFTER)


def _bars(_panel: Panel) -> timeseries.Panel:
    return (
        _series(["sum", "max"])
        .draw_style(common_model.GraphDrawStyle.BARS)
        .fill_opacity(70)
        .line_width(0)
        .stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    )


def _timeline(_panel: Panel) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .show_value(common_model.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.8)
        .span_nulls(True)
        .fill_opacity(80)
        .line_width(0)
        .mappings([model.ValueMap(options=BREAKER_MAP)])
    )


def _table(_panel: Panel) -> table.Panel:
    return table.Panel().filterable(True).cell_height(common_model.TableCellHeight.SM)


BREAKER_MAP = {
    "0": model.ValueMappingResult(text="closed", color="green", index=0),
    "1": model.ValueMappingResult(text="half open", color="orange", index=1),
    "2": model.ValueMappingResult(text="open", color="red", index=2),
}
_KINDS: Mapping[str, Callable[[Panel], Any]] = {
    "stat": _stat,
    "gauge": _gauge,
    "lines": _lines,
    "steps": _held,
    "bars": _bars,
    "timeline": _timeline,
    "table": _table,
}
