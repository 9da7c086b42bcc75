"""Every statement of the dashboards, as the reader role runs it, on every edition, over a short and a long range."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from grafana.named import SOURCES
from tests.databases import ROOT
from tests.grafana.files import sql_on_panels
from tests.grafana.macros import Looking, expand, interval_of

STATEMENTS = sql_on_panels()
RANGES = {"six_hours": timedelta(hours=6), "thirty_days": timedelta(days=30)}
TIMESTAMPTZ, NUMBERS = 1184, {20, 21, 23, 700, 701, 1700}
"""Type oids of PostgreSQL."""
GROWING = {
    "payments",
    "api_requests",
    "audit_events",
    "queue_events",
    "balance_samples",
    "audit_trail",
    "breaker_intervals",
}
"""Views of facts; those of rollups end in _hourly or _daily, or are made of them."""
OF_ROLLUPS = {"retry_health", "spend_by_service"}


def looking_at(statement, span, reader, *, timescaledb):
    """The range until now, and the variables at 'All', each asked for as Grafana does."""
    end = datetime.now(UTC)
    panel = statement.panel
    interval = interval_of(end - span, end, panel.get("interval", "1s"), panel.get("maxDataPoints", 720))
    values: dict[str, list[str]] = {}
    looking = Looking(start=end - span, end=end, interval=interval, timescaledb=timescaledb, variables=values)
    for variable in statement.variables:
        found = [row[0] for row in reader.execute(expand(variable["query"], looking))]
        assert found, f"{variable['name']}: nothing to choose from"
        values[variable["name"]] = found if variable["includeAll"] else found[:1]
        if variable.get("allValue"):  # put in as it is: a list of one, in the quotes that it has
            values[variable["name"]] = [variable["allValue"].strip("'")]
    return looking


@pytest.mark.parametrize("span", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_statements_answer_what_their_panels_need(statement, span, reader):
    texts = {
        expand(statement.sql, looking_at(statement, span, reader, timescaledb=timescaledb)): None
        for timescaledb in (False, True)
    }
    for text in texts:
        cursor = reader.execute(text)
        columns = {column.name: column.type_code for column in cursor.description}
        rows = cursor.fetchall()
        assert rows
        CHECKS[statement.panel["type"]](statement, columns, rows)


def check_series(statement, columns, rows):
    assert statement.format == "time_series"
    assert list(columns) == ["time", "metric", "value"]
    assert columns["time"] == TIMESTAMPTZ
    assert columns["value"] in NUMBERS
    times = [row[0] for row in rows]
    assert times == sorted(times)
    assert len({row[:2] for row in rows}) == len(rows), "two values of one series at one time"
    assert any(row[2] is not None for row in rows)


def check_number(statement, columns, rows):
    assert statement.format == "table"
    (number,) = [position for position, code in enumerate(columns.values()) if code in NUMBERS]
    assert all(isinstance(row[number], int | float | Decimal) for row in rows)


def check_table(statement, columns, _rows):
    assert statement.format == "table"
    overrides = statement.panel["fieldConfig"]["overrides"]
    styled = {override["matcher"]["options"] for override in overrides if override["matcher"]["id"] == "byName"}
    assert styled <= set(columns)


def check_annotation(_statement, columns, _rows):
    assert list(columns) == ["time", "title", "text", "tags"]


CHECKS = {
    "timeseries": check_series,
    "state-timeline": check_series,
    "stat": check_number,
    "bargauge": check_number,
    "table": check_table,
    "annotation": check_annotation,
}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_what_grows_is_bounded_by_the_range(statement):
    views = {path.stem for path in (ROOT / "sql" / "views").glob("*.sql")}
    read = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", statement.sql)) & views
    growing = {view for view in read if view in GROWING | OF_ROLLUPS or re.search("_(hourly|daily)$", view)}
    bounds = re.findall(r"\$__timeFilter\((?:\w\.)?(?:ts|bucket|started_at)\)|(?:<=|AND) \$__timeTo\(\)", statement.sql)
    assert len(bounds) >= len(growing)


def test_avoided_money_is_what_the_view_says(reader):
    (statement,) = [found for found in STATEMENTS if found.panel["title"] == "Avoided by open breakers"]
    looking = looking_at(statement, RANGES["six_hours"], reader, timescaledb=False)
    shown = reader.execute(expand(statement.sql, looking)).fetchall()
    told = "SELECT asset, sum(avoided_tokens) FROM retry_health WHERE asset IS NOT NULL AND $__timeFilter(bucket) GROUP BY 1"
    said = reader.execute(expand(told, looking)).fetchall()
    assert [(asset, round(tokens, 6)) for asset, tokens in shown] == [
        (asset, round(tokens, 6)) for asset, tokens in said
    ]


NEWEST = """SELECT ts, payment_id FROM payments
WHERE $__timeFilter(ts) AND status IN ('failed', 'reverted') AND NOT is_duplicate ORDER BY ts DESC, id DESC LIMIT 100"""


@pytest.mark.parametrize("span", RANGES.values(), ids=RANGES)
def test_a_list_in_windows_is_the_list_of_the_range(span, reader):
    (statement,) = [found for found in STATEMENTS if found.panel["title"] == "Payments that failed"]
    looking = looking_at(statement, span, reader, timescaledb=False)
    shown = reader.execute(f"SELECT ts, payment_id FROM ({expand(statement.sql, looking)}) AS shown").fetchall()
    assert shown
    assert shown == reader.execute(expand(NEWEST, looking)).fetchall()


def test_windows_meet_and_cover_the_range_where_a_day_has_23_hours(reader):
    end = datetime(2026, 4, 1, 12, tzinfo=UTC)
    looking = Looking(start=end - timedelta(days=30), end=end, interval="1h", timescaledb=False, variables={})
    windows = expand("SELECT since, nullif(until, 'infinity') FROM " + SOURCES["newest_first"], looking)
    reader.execute("SET TIME ZONE 'Europe/Berlin'")
    try:
        found = reader.execute(windows).fetchall()
    finally:
        reader.execute("RESET TIME ZONE")
    begins, ends = zip(*found, strict=True)
    assert ends == (None, *begins[:-1])
    assert list(begins) == sorted(begins, reverse=True)
    assert begins[-1] == looking.start


def test_macros_and_functions_are_ones_that_every_edition_has():
    """A reader's search path has no time_bucket, which is what $__timeGroup becomes when the datasource says timescaledb."""
    for statement in STATEMENTS:
        assert not re.search(r"\$__timeGroup|time_bucket", statement.sql), statement.id
