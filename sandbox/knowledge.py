"""What the knowledge API sells: answers that are the same for the same seed, and dearer than market data."""

import random
from collections.abc import Mapping
from functools import partial

from sandbox.seller import Catalogue, Product
from sandbox.troubles import flaky_acts

TOPICS = ("x402", "solana", "stablecoins", "facilitators", "settlement", "circuit-breakers")

_FINDINGS = (
    "is cheaper than it was",
    "is best measured before it is believed",
    "settles in a slot or two",
    "fails in ways that only the chain can tell",
    "is asked about more often than it is read about",
)


def knowledge_catalogue(seed: int) -> Catalogue:
    """The knowledge of a seed."""
    dice = random.Random(f"{seed}/knowledge")  # noqa: S311 - words for show
    products = (
        Product(name="answer", price=5000, description="A sentence", make=partial(_words, dice, 1)),
        Product(name="summary", price=12_000, description="Three sentences", make=partial(_words, dice, 3)),
        Product(
            name="flaky",
            price=3000,
            description="A sentence, from an upstream that is often down",
            make=partial(_words, dice, 1),
            acts=flaky_acts(seed),
            trouble="answers 503 in episodes; now and then a payment fails, or is taken in vain",
        ),
    )
    return Catalogue(
        title="Sandbox knowledge",
        item="topic",
        items=TOPICS,
        spell=str.lower,
        products={product.name: product for product in products},
    )


def _words(dice: random.Random, sentences: int, topic: str) -> Mapping[str, object]:
    return {"text": " ".join(f"{topic.capitalize()} {finding}." for finding in dice.sample(_FINDINGS, sentences))}
