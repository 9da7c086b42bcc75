"""What Grafana makes of a query before it reaches the database.

The frontend replaces template variables; the PostgreSQL datasource then replaces macros
(pkg/tsdb/grafana-postgresql-datasource/macros.go). Its expression ends an argument list at the first closing parenthesis,
so arguments are plain columns here as there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_VARIABLE = re.compile(r"\$\{(\w+):(\w+)\}")
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_LEFT = re.compile(r"\$(\{\w|[A-Za-z_])")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, kw_only=True)
class Looking:
    """What somebody looks at: a range, the interval that follows from it, how the datasource is set up."""

    start: datetime
    end: datetime
    interval: str
    timescaledb: bool = False
    variables: Mapping[str, Sequence[str]] | None = None


def expand(sql: str, looking: Looking) -> str:
    """The statement that reaches the database. Raises ValueError: a macro or a variable that Grafana would not know."""
    sql = _VARIABLE.sub(lambda found: _variable(found, looking), sql)
    milliseconds = round(seconds(looking.interval) * 1000)
    sql = sql.replace("$__interval_ms", str(milliseconds)).replace("$__interval", looking.interval)
    expanded = _MACRO.sub(lambda found: _macro(found, sql, looking), sql)
    if left := _LEFT.search(expanded):
        raise ValueError(f"not replaced: {expanded[left.start() : left.start() + 40]!r}")
    return expanded


def seconds(interval: str) -> float:
    """'30s', '12h', '20ms' in seconds; a number alone is seconds."""
    found = re.fullmatch(r"(\d+)(ms|[smhdw])?", interval.strip("'"))
    if found is None:
        raise ValueError(f"no interval: {interval!r}")
    return int(found[1]) * _UNITS[found[2] or "s"]


def interval_of(start: datetime, end: datetime, least: str, points: int) -> str:
    """About what Grafana takes: the range through the points of a panel, rounded up to a round one, at least `least`."""
    wanted = max((end - start) / timedelta(seconds=1) / points, seconds(least))
    for name in ("1s", "5s", "10s", "15s", "30s", "1m", "5m", "10m", "30m", "1h", "6h", "12h", "1d"):
        if seconds(name) >= wanted:
            return name
    return "7d"


def _variable(found: re.Match[str], looking: Looking) -> str:
    name, form = found.groups()
    values = (looking.variables or {}).get(name)
    if values is None or form != "sqlstring":
        raise ValueError(f"{found[0]}: no such variable, or not quoted for SQL")
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def _macro(found: re.Match[str], sql: str, looking: Looking) -> str:
    name, arguments = found[1], [argument.strip() for argument in found[2].split(",")]
    if name == "__timeGroup" and sql[sql.index(found[0]) + len(found[0]) :].startswith(","):
        name = "__timeGroupAlias"  # what Grafana does for queries of before 5.3
    if name in {"__timeGroup", "__timeGroupAlias"}:
        column, width = arguments[0], seconds(arguments[1])
        alias = ' AS "time"' if name.endswith("Alias") else ""
        if looking.timescaledb:
            return f"time_bucket('{width:.3f}s',{column}){alias}"
        shown = int(width) if width == int(width) else width
        return f"floor(extract(epoch from {column})/{shown})*{shown}{alias}"
    start, end = _instant(looking.start), _instant(looking.end)
    simple = {
        "__time": f'{arguments[0]} AS "time"',
        "__timeFilter": f"{arguments[0]} BETWEEN '{start}' AND '{end}'",
        "__timeFrom": f"'{start}'",
        "__timeTo": f"'{end}'",
    }
    if name not in simple:
        raise ValueError(f"unknown macro {found[0]}")
    return simple[name]


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
