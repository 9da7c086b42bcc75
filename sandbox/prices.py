"""Market data that nobody should trade on: random walks, the same for the same seed."""

import random
from collections.abc import Mapping

START_TICKS: Mapping[str, int] = {
    "BTC": 64_250_000_000,
    "ETH": 3_120_000_000,
    "SOL": 148_300_000,
    "JUP": 910_000,
    "BONK": 24,
}
"""First prices in ticks of a millionth of a dollar."""

TICKS = 1_000_000
BOOK_LEVELS = 5


class RandomWalk:
    """The price of one symbol. It moves by up to half a per cent each time it is looked at, and never below a tick."""

    def __init__(self, seed: int, symbol: str) -> None:
        self._random = random.Random(f"{seed}/{symbol}")  # noqa: S311 - data for show
        self._ticks = START_TICKS[symbol]

    def step(self) -> int:
        """The next price in ticks."""
        reach = max(1, self._ticks // 200)
        self._ticks = max(1, self._ticks + self._random.randint(-reach, reach))
        return self._ticks

    def book(self) -> dict[str, list[list[str]]]:
        """Bids and asks around the next price: `[price, size]`, best first."""
        middle = self.step()
        gap = max(1, middle // 2000)
        levels = range(1, BOOK_LEVELS + 1)
        return {
            "bids": [self._level(max(1, middle - gap * level)) for level in levels],
            "asks": [self._level(middle + gap * level) for level in levels],
        }

    def _level(self, ticks: int) -> list[str]:
        return [dollars(ticks), str(self._random.randint(1, 5000))]


def dollars(ticks: int) -> str:
    """A price as a decimal string."""
    return f"{ticks // TICKS}.{ticks % TICKS:06d}"
