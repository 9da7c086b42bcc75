"""The exporter's families of facts, made from a snapshot. Whole tokens, Unix seconds.

An amount is an exact integer of atomic units until its last step, one division that is rounded to the nearest float. So
a total never falls; above 2^53 atomic units its last digits are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from store.addresses import address_to_text
from store.metrics_snapshot import Asset, Balance, Breaker, PaymentTotal, RequestTotal, Snapshot
from store.tables import BREAKER_STATES

T = TypeVar("T")
Labels = tuple[str, ...]
DROPPED = "tollwatch_exporter_series_dropped"


def in_tokens(amount: int, decimals: int) -> float:
    """Atomic units → whole tokens, the nearest float (int / int is rounded once, and correctly)."""
    return float(amount / 10**decimals)


def asset_label(asset: Asset) -> str:
    """The symbol, unless an older asset of the same network has it: then the mint."""
    return asset.symbol if asset.mint is None else address_to_text(asset.mint)


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: its metric, and the series of a snapshot's rows. `found` counts series, those not read included."""

    metric: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    documentation: str
    labels: Labels
    found: Callable[[Snapshot], int]
    series: Callable[[Snapshot], Iterator[tuple[Labels, float]]]

    @property
    def exposed(self) -> str:
        """The name of its series."""
        return self.name + ("_total" if self.metric is CounterMetricFamily else "")

    def empty(self) -> CounterMetricFamily | GaugeMetricFamily:
        """The metric without series."""
        return self.metric(self.name, self.documentation, labels=self.labels)


class FactCollector(Collector):
    """Every family of one snapshot, at most `most` series each; what is beyond is counted."""

    def __init__(self, snapshot: Snapshot, most: int) -> None:
        self._snapshot = snapshot
        self._most = most

    def describe(self) -> Iterator[Metric]:
        """Metrics without series: what a registry asks for at registration, in place of `collect`."""
        yield from (family.empty() for family in FAMILIES)
        yield _dropped({})

    def collect(self) -> Iterator[Metric]:
        """The metrics, then how many series each left out."""
        dropped = {}
        for family in FAMILIES:
            metric, told = self._filled(family)
            dropped[family.exposed] = family.found(self._snapshot) - told
            yield metric
        yield _dropped(dropped)

    def _filled(self, family: Family) -> tuple[Metric, int]:
        metric = family.empty()
        told: set[Labels] = set()
        for labels, value in family.series(self._snapshot):
            if len(told) == self._most:
                break
            # The same series twice would make Prometheus refuse the whole scrape.
            if labels not in told:
                told.add(labels)
                metric.add_metric(labels, value)
        return metric, len(told)


def _dropped(numbers: Mapping[str, int]) -> Metric:
    metric = GaugeMetricFamily(
        DROPPED, "Series left out: beyond TOLLWATCH_MAX_SERIES, or ambiguous.", labels=["family"]
    )
    for name, number in numbers.items():
        metric.add_metric([name], number)
    return metric


def _wallet(row: Balance) -> Labels:
    return (row.project, row.agent, row.network, row.wallet, asset_label(row.asset))


def _payment(row: PaymentTotal) -> Labels:
    return (row.project, row.agent, row.asset.network, asset_label(row.asset), row.status, row.origin)


def _service(row: RequestTotal) -> Labels:
    return (row.project, row.agent, row.network, row.service)


def _each(
    rows: Callable[[Snapshot], Sequence[T]], labels: Callable[[T], Labels], value: Callable[[T], float]
) -> Callable[[Snapshot], Iterator[tuple[Labels, float]]]:
    return lambda facts: ((labels(row), value(row)) for row in rows(facts))


def _thresholds(facts: Snapshot) -> Iterator[tuple[Labels, float]]:
    for row in facts.balances:
        if row.threshold is not None:
            yield _wallet(row), in_tokens(row.threshold, row.asset.decimals)


def _found_thresholds(facts: Snapshot) -> int:
    """Of the rows that were not read nobody knows whether they have one: each counts."""
    return facts.found["balances"] - sum(row.threshold is None for row in facts.balances)


def _states(facts: Snapshot) -> Iterator[tuple[Labels, float]]:
    for row in facts.breakers:
        for state in BREAKER_STATES:
            yield (*_breaker(row), state), float(row.state == state)


def _breaker(row: Breaker) -> Labels:
    return (row.project, row.agent, row.network, row.component)


def _found(kind: str, per_row: int = 1) -> Callable[[Snapshot], int]:
    return lambda facts: facts.found[kind] * per_row


_OF_WALLET: dict[str, Any] = {"metric": GaugeMetricFamily, "labels": ("project", "agent", "network", "wallet", "asset")}
_OF_PAYMENT: dict[str, Any] = {
    "metric": CounterMetricFamily,
    "labels": ("project", "agent", "network", "asset", "status", "origin"),
    "found": _found("payments"),
}

FAMILIES = (
    Family(
        name="tollwatch_wallet_balance",
        documentation="Newest balance, in whole tokens.",
        found=_found("balances"),
        series=_each(lambda facts: facts.balances, _wallet, lambda row: in_tokens(row.amount, row.asset.decimals)),
        **_OF_WALLET,
    ),
    Family(
        name="tollwatch_wallet_balance_threshold",
        documentation="Balance below which the wallet is low, in whole tokens.",
        found=_found_thresholds,
        series=_thresholds,
        **_OF_WALLET,
    ),
    Family(
        name="tollwatch_wallet_balance_updated_timestamp_seconds",
        documentation="When the newest balance was read, Unix time.",
        found=_found("balances"),
        series=_each(lambda facts: facts.balances, _wallet, lambda row: row.ts.timestamp()),
        **_OF_WALLET,
    ),
    Family(
        name="tollwatch_payments",
        documentation="Payments that reached a status, by who said so first; repeats are not counted.",
        series=_each(lambda facts: facts.payments, _payment, lambda row: float(row.payments)),
        **_OF_PAYMENT,
    ),
    Family(
        name="tollwatch_payment_amount",
        documentation="Money of the payments that reached a status, in whole tokens; repeats are not counted.",
        series=_each(lambda facts: facts.payments, _payment, lambda row: in_tokens(row.amount, row.asset.decimals)),
        **_OF_PAYMENT,
    ),
    Family(
        metric=CounterMetricFamily,
        name="tollwatch_requests",
        documentation="Attempts of requests, by outcome.",
        labels=("project", "agent", "network", "service", "outcome"),
        found=_found("requests"),
        series=_each(
            lambda facts: facts.requests,
            lambda row: (*_service(row), row.outcome or ""),
            lambda row: float(row.requests),
        ),
    ),
    Family(
        metric=CounterMetricFamily,
        name="tollwatch_request_retries",
        documentation="Attempts of requests after the first.",
        labels=("project", "agent", "network", "service"),
        found=_found("services"),
        series=_each(lambda facts: facts.services, _service, lambda row: float(row.retries)),
    ),
    Family(
        metric=GaugeMetricFamily,
        name="tollwatch_circuit_breaker_state",
        documentation="1 for the state that a circuit breaker is in, 0 for the others.",
        labels=("project", "agent", "network", "component", "state"),
        found=_found("breakers", len(BREAKER_STATES)),
        series=_states,
    ),
)
