"""Times on the wire: the quick way and the long one agree."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.times import parse_time
from store.errors import InvalidValue

USUAL = "2026-11-21T06:07:08.009Z"


def said(text):
    try:
        return parse_time(text)
    except InvalidValue:
        return None


def test_a_time_of_whole_milliseconds():
    assert parse_time(USUAL) == datetime(2026, 11, 21, 6, 7, 8, 9000, UTC)
    assert parse_time(USUAL).tzinfo is UTC


@pytest.mark.parametrize("place", range(len(USUAL) - 1))
def test_one_more_digit_changes_nothing(place):
    for character in "0123456789 TtZz.:+-_,\0\u0663é":
        text = USUAL[:place] + character + USUAL[place + 1 :]
        assert said(text) == said(text[:-1] + "0Z"), text


def test_days_that_do_not_exist_are_refused_either_way():
    for day in ("2026-02-29", "2024-02-29", "2026-04-31", "0000-01-01", "0001-01-01", "9999-12-31"):
        for time in ("23:59:59.999", "24:00:00.000", "23:60:00.000", "23:59:60.000"):
            assert said(f"{day}T{time}Z") == said(f"{day}T{time}0Z"), (day, time)
    assert said("2026-02-29T00:00:00.000Z") is None
