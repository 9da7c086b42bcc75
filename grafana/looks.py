"""How one column or series looks: properties of Grafana's field overrides."""

from __future__ import annotations

from collections.abc import Mapping

from grafana.sdk import model

Properties = tuple[model.DynamicConfigValue, ...]

TOKENS = "suffix: tokens"
"""Unit of money: whole tokens; the series or the column beside it names the asset."""
STATES = {
    "sufficient": "green",
    "low": "orange",
    "paused": "red",
    "closed": "green",
    "half_open": "orange",
    "open": "red",
    "active": "green",
    "expired": "orange",
    "revoked": "red",
    "unknown": "red",
    "pending": "yellow",
    "retrying": "orange",
    "verified": "blue",
    "failed": "red",
    "reverted": "purple",
    "settled": "green",
    "skipped_open": "blue",
}
SEVERITIES = {"debug": "text", "info": "blue", "warning": "orange", "error": "red", "critical": "dark-red"}


def unit(name: str, decimals: int | None = None) -> Properties:
    """Unit of a column, and how many decimals it shows."""
    shown = [_property("unit", name)]
    if decimals is not None:
        shown.append(_property("decimals", decimals))
    return tuple(shown)


def words(colors: Mapping[str, str]) -> Properties:
    """Colours of a column's words."""
    results = {
        word: {"color": color, "index": index, "text": word} for index, (word, color) in enumerate(colors.items())
    }
    return (
        _property("mappings", [{"type": "value", "options": results}]),
        _property("custom.cellOptions", {"type": "color-text"}),
    )


def steps(*given: tuple[float | None, str]) -> Properties:
    """Colours of a column's numbers, from the given values on."""
    return (
        _property(
            "thresholds", {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in given]}
        ),
        _property("custom.cellOptions", {"type": "color-text"}),
    )


def width(pixels: int) -> Properties:
    """Width of a column."""
    return (_property("custom.width", pixels),)


def color(name: str) -> Properties:
    """One fixed colour."""
    return (_property("color", {"mode": "fixed", "fixedColor": name}),)


def dashed(name: str) -> Properties:
    """A line that is a limit, not a measurement."""
    return (
        *color(name),
        _property("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
        _property("custom.spanNulls", True),
        _property("custom.showPoints", "never"),
    )


def link(title: str, uid: str, variable: str) -> Properties:
    """A cell leads to a dashboard with its value chosen, for the same datasource and range."""
    url = f"/d/{uid}?${{datasource:queryparam}}&var-{variable}=${{__value.raw}}&${{__url_time_range}}"
    return (_property("links", [{"title": title, "url": url, "targetBlank": False}]),)


def _property(name: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val=name, value=value)
