"""How far back a page of buckets looks at a time."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate

import pytest

from store.readers.listings_buckets import MOST_GROWTH, _next_part

HOUR, YEAR = timedelta(hours=1), timedelta(days=366)


def test_the_next_part_is_what_the_page_lacks_and_a_quarter_more():
    assert _next_part(4 * HOUR, found=40, wanted=100, least=1) == 1.25 * 6 * HOUR


def test_nothing_found_means_a_much_longer_part():
    assert _next_part(HOUR, found=0, wanted=100, least=1) == MOST_GROWTH * HOUR


@pytest.mark.parametrize("found", [0, 1, 50, 99])
def test_a_year_is_read_in_few_parts_wherever_the_rows_end(found):
    def longer(looked_at, least):
        return looked_at + _next_part(looked_at, found=found, wanted=100, least=least)

    ends = list(accumulate((1, 2, 4, 8, 16), longer, initial=24 * HOUR))
    assert ends[-1] > YEAR
