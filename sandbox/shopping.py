"""What an agent buys, for ever, and how long it waits in between."""

import random
from collections.abc import Iterator, Mapping

from sandbox.knowledge import TOPICS
from sandbox.market import SYMBOLS
from sandbox.places import KNOWLEDGE, MARKET_DATA
from sandbox.profiles import Basket

ITEMS: Mapping[str, tuple[str, ...]] = {MARKET_DATA: SYMBOLS, KNOWLEDGE: TOPICS}


def shopping(seed: int, name: str, basket: Basket) -> Iterator[tuple[str, str, float]]:
    """(name of the service, path of the resource, share of the mean pause before the next), by the agent's name."""
    dice = random.Random(f"{seed}/{name}/shopping")  # noqa: S311 - repeatable on purpose
    weights = [weight for _, _, weight in basket]
    while True:
        service, product, _ = dice.choices(basket, weights)[0]
        yield service, f"/v1/{product}/{dice.choice(ITEMS[service])}", dice.uniform(0.5, 1.5)
