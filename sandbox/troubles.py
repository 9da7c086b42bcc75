"""The sandbox's troubles: what the resources /v1/flaky/… and /v1/cheat/… do to their customers, on purpose.

Every other resource is honest. A script is an endless sequence of acts; each unpaid request takes the next one. So the
same seed is the same trouble, by count and whatever the clock says. The flaky script fits an agent with
three retries and a breaker that opens after three failed requests.
"""

import random
from collections.abc import Iterator
from enum import Enum


class Act(Enum):
    """What becomes of a request."""

    HONEST = "sold as agreed"
    DOWN = "503 before any payment"
    UNSETTLED = "402: the payment is taken but its settlement fails, so no money moves"
    PAID_AND_DOWN = "503 with the settlement: the money moves, the goods do not come"
    CRASH = "500 after settling, without a word about the settlement"
    HANG = "no answer after settling"
    SILENT = "200 with the goods, without a word about the settlement"


ATTEMPTS = 4
"""Attempts of a request that never succeeds."""

OUTAGE = 3 * ATTEMPTS
"""Failures that open the breaker; each more fails a probe."""

CHEATING = (Act.HONEST, Act.HONEST, Act.HONEST, Act.CRASH, Act.HANG, Act.SILENT)


def honest() -> Iterator[Act]:
    """No trouble, ever."""
    while True:
        yield Act.HONEST


def flaky_acts(seed: int) -> Iterator[Act]:
    """Four small troubles in any order, each after a few sales, then an outage; and again, for ever."""
    dice = random.Random(f"{seed}/troubles/flaky")  # noqa: S311 - repeatable on purpose
    while True:
        troubles = [[Act.DOWN] * dice.randint(1, 3), [Act.DOWN] * ATTEMPTS, [Act.UNSETTLED], [Act.PAID_AND_DOWN]]
        dice.shuffle(troubles)
        for trouble in (*troubles, [Act.DOWN] * (OUTAGE + dice.randint(1, 2))):
            yield from [Act.HONEST] * dice.randint(1, 2)
            yield from trouble
        yield Act.HONEST


def cheating_acts(seed: int) -> Iterator[Act]:
    """Each of `CHEATING`, in any order; and again, for ever."""
    dice = random.Random(f"{seed}/troubles/cheat")  # noqa: S311
    while True:
        yield from dice.sample(CHEATING, len(CHEATING))
