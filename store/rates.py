"""Token buckets: so much a second, with a burst, and with debt.

Whoever has anything left may go, and then owes what it took, however much: a request larger than the burst is
possible, and waits for it afterwards instead of for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_EPSILON = 1e-6
"""Of a second's worth: floats do not fill a bucket to the last drop."""


class Buckets(Generic[_K]):
    """A bucket per key, at most `size`; the least recently used one makes room, and its key begins with a full one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._levels: OrderedDict[_K, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: _K, rate: float, burst: float, now: float) -> float:
        """Seconds until the key may go; 0: now. `rate` a second fill its bucket up to `burst`; rate 0: no limit."""
        if rate <= 0:
            return 0.0
        level = self._level(key, rate, burst, now)
        return 0.0 if level > 0 else _EPSILON + -level / rate

    def take(self, key: _K, amount: float, rate: float, burst: float, now: float) -> None:
        """Take that much, whether it is there or not."""
        if rate <= 0:
            return
        self._levels[key] = (self._level(key, rate, burst, now) - amount, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._size:
            self._levels.popitem(last=False)

    def _level(self, key: _K, rate: float, burst: float, now: float) -> float:
        level, since = self._levels.get(key, (burst, now))
        return min(burst, level + max(0.0, now - since) * rate)
