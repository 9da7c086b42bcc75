"""How long to wait before the next attempt."""

import random

FIRST_S = 0.25
MAX_S = 5.0


class Backoff:
    """Doubles from `FIRST_S` to `MAX_S`, times 0.5 to 1.5 so that those who failed together do not return together."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def after(self, attempt: int) -> float:
        """Seconds to wait after this attempt, counted from 1."""
        return min(FIRST_S * float(2 ** (attempt - 1)), MAX_S) * self._dice.uniform(0.5, 1.5)
