"""Values of series: whole tokens, seconds, histograms.

An amount is an exact integer of atomic units until its last step, one division that is rounded to the nearest float. So
a total never falls; above 2^53 atomic units its last digits are rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from store.addresses import address_to_text
from store.metrics_snapshot import Asset

EDGE_CELLS = range(20, 101, 4)
"""Where the histogram's buckets end, as cells n of the latency rollups: 10^(n/20) ms, 10 ms to 100 s, 5 per decade."""
EDGES = {cell: f"{10 ** (cell / 20 - 3):.4g}" for cell in EDGE_CELLS}
"""The same as `le`: seconds. Latencies are whole milliseconds, cut, so one of exactly an edge lasted longer than it."""
HISTOGRAM_WIDTH = len(EDGES) + 3
"""Series of one histogram: its buckets, the last one (+Inf), the sum and the count."""


class Histogram(NamedTuple):
    """One histogram: (le, attempts up to it), the last being +Inf, and the sum of all."""

    buckets: list[tuple[str, float]]
    total: float


def histogram(cells: Mapping[int, int], ms_sum: int) -> Histogram:
    """Attempts by cell n, each of 10^(n/20) to 10^((n+1)/20) ms, as cumulative buckets in seconds."""
    upto = 0
    buckets: list[tuple[str, float]] = []
    remaining = sorted(cells.items(), reverse=True)
    for edge, le in EDGES.items():
        while remaining and remaining[-1][0] < edge:
            upto += remaining.pop()[1]
        buckets.append((le, upto))
    everything = upto + sum(number for _, number in remaining)
    return Histogram([*buckets, ("+Inf", everything)], ms_sum / 1000)


def in_tokens(amount: int, decimals: int) -> float:
    """Atomic units → whole tokens, the nearest float (int / int is rounded once, and correctly)."""
    return float(amount / 10**decimals)


def asset_label(asset: Asset) -> str:
    """The symbol, unless an older asset of the same network has it: then the mint."""
    return asset.symbol if asset.mint is None else address_to_text(asset.mint)
