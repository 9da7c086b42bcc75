from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from collector.ticks import GridTrigger, tick_before

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
STEP = timedelta(seconds=10)


@pytest.mark.parametrize(
    ("seconds", "tick"), [(0, 0), (0.000001, 0), (9.999999, 0), (10, 10), (-0.000001, -10), (25, 20)]
)
def test_the_tick_before(seconds, tick):
    assert tick_before(NOON + timedelta(seconds=seconds), STEP) == NOON + timedelta(seconds=tick)


def test_ticks_are_whole_milliseconds():
    for interval in (timedelta(milliseconds=100), timedelta(milliseconds=333), timedelta(hours=1)):
        tick = tick_before(NOON + timedelta(microseconds=123_457), interval)
        assert tick.microsecond % 1000 == 0


def test_the_grid_is_the_same_whenever_it_begins():
    trigger = GridTrigger(STEP)
    assert trigger.get_next_fire_time(None, NOON + timedelta(seconds=3)) == NOON + STEP
    assert trigger.get_next_fire_time(NOON, NOON + timedelta(seconds=3)) == NOON + STEP
    # The first run, at start, is off the grid; the next one is on it.
    assert trigger.get_next_fire_time(NOON + timedelta(seconds=3), NOON) == NOON + STEP
    assert str(trigger) == "every 0:00:10"


def test_no_tick_is_left_out():
    trigger = GridTrigger(STEP)
    due = [NOON]
    while len(due) < 100:
        due.append(trigger.get_next_fire_time(due[-1], NOON))
    assert due == [NOON + STEP * number for number in range(100)]
