"""The stand-in expands as Grafana's own tests say (grafana-postgresql-datasource/macros_test.go)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.grafana.macros import Looking, expand, interval_of

LOOKING = Looking(
    start=datetime(2018, 4, 12, 18, 0, tzinfo=UTC), end=datetime(2018, 4, 12, 18, 5, tzinfo=UTC), interval="1m"
)


@pytest.mark.parametrize(
    ("sql", "plain", "timescale"),
    [
        ("min($__time(t))", 'min(t AS "time")', None),
        ("$__timeFilter(t)", "t BETWEEN '2018-04-12T18:00:00.000Z' AND '2018-04-12T18:05:00.000Z'", None),
        ("$__timeFrom()", "'2018-04-12T18:00:00.000Z'", None),
        (
            "$__timeGroup(t,'5m'), v",
            'floor(extract(epoch from t)/300)*300 AS "time", v',
            "time_bucket('300.000s',t) AS \"time\", v",
        ),
        (
            "$__timeGroup(t , '12d') x",
            "floor(extract(epoch from t)/1036800)*1036800 x",
            "time_bucket('1036800.000s',t) x",
        ),
        ("date_bin('$__interval', t) $__interval_ms", "date_bin('1m', t) 60000", None),
    ],
)
def test_macros(sql, plain, timescale):
    assert expand(sql, LOOKING) == plain
    assert expand(sql, replace(LOOKING, timescaledb=True)) == (timescale or plain)


def test_variables_are_quoted():
    looking = replace(LOOKING, variables={"agent": ["a", "o'b"]})
    assert expand("x IN (${agent:sqlstring})", looking) == "x IN ('a','o''b')"


@pytest.mark.parametrize("sql", ["$__nothing(t)", "${agent:csv}", "${other:sqlstring}", "$agent", "$__timeFilter"])
def test_what_grafana_would_not_replace_is_found(sql):
    with pytest.raises(ValueError, match=r"macro|variable|replaced"):
        expand(sql, replace(LOOKING, variables={"agent": ["a"]}))


def test_intervals_grow_with_the_range():
    assert interval_of(LOOKING.start, LOOKING.end, "1s", 720) == "1s"
    assert interval_of(datetime(2018, 1, 1, tzinfo=UTC), LOOKING.end, "1h", 720) == "6h"
