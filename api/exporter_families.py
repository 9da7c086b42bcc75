"""The exporter's families of facts: each one's metric, and the series that a snapshot gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from api.exporter_values import HISTOGRAM_WIDTH, Histogram, asset_label, histogram, in_tokens
from store.metrics_snapshot import AuditTotal, Balance, Breaker, Latency, PaymentTotal, RequestTotal, Snapshot
from store.tables import BREAKER_STATES

T = TypeVar("T")
Labels = tuple[str, ...]
Value = float | Histogram
MetricFamily = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
BREAKER_STATE_OF = {"breaker_opened": "open", "breaker_half_opened": "half_open", "breaker_closed": "closed"}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: its metric, and the series of a snapshot's rows (the same rows: the same series). `found` counts
    series, those not read included; `width` is how many series one set of labels makes.
    """

    metric: type[MetricFamily]
    name: str
    documentation: str
    labels: Labels
    found: Callable[[Snapshot], int]
    rows: Callable[[Snapshot], Sequence[Any]]
    series: Callable[[Sequence[Any]], Iterator[tuple[Labels, Value]]]
    width: int = 1

    @property
    def exposed(self) -> str:
        """The name of its series."""
        return self.name + ("_total" if self.metric is CounterMetricFamily else "")

    @cached_property
    def template(self) -> str:
        """Its labels, to be filled in."""
        return ",".join(f'{label}="%s"' for label in self.labels)

    @property
    def kind(self) -> str:
        """counter, gauge or histogram."""
        return self.empty().type

    @property
    def is_total(self) -> bool:
        """Whether its series never fall."""
        return self.metric is not GaugeMetricFamily

    def empty(self) -> MetricFamily:
        """The metric without series."""
        return self.metric(self.name, self.documentation, labels=self.labels)


def _wallet(row: Balance) -> Labels:
    return (row.project, row.agent, row.network, row.wallet, asset_label(row.asset))


def _payment(row: PaymentTotal) -> Labels:
    return (row.project, row.agent, row.asset.network, asset_label(row.asset), row.status, row.origin)


def _service(row: RequestTotal | Latency) -> Labels:
    return (row.project, row.agent, row.network, row.service)


def _each(
    labels: Callable[[T], Labels], value: Callable[[T], Value]
) -> Callable[[Sequence[T]], Iterator[tuple[Labels, Value]]]:
    return lambda rows: ((labels(row), value(row)) for row in rows)


def _thresholds(rows: Sequence[Balance]) -> Iterator[tuple[Labels, float]]:
    for row in rows:
        if row.threshold is not None:
            yield _wallet(row), in_tokens(row.threshold, row.asset.decimals)


def _found_thresholds(facts: Snapshot) -> int:
    """Of the rows that were not read nobody knows whether they have one: each counts."""
    return facts.found["balances"] - sum(row.threshold is None for row in facts.balances)


def _runways(rows: Sequence[Balance]) -> Iterator[tuple[Labels, float]]:
    for row in rows:
        if row.runway_s is not None:
            yield _wallet(row), row.runway_s


def _found_runways(facts: Snapshot) -> int:
    return facts.found["balances"] - sum(row.runway_s is None for row in facts.balances)


def _states(rows: Sequence[Breaker]) -> Iterator[tuple[Labels, float]]:
    for row in rows:
        for state in BREAKER_STATES:
            yield (*_breaker(row), state), int(row.state == state)


def _breaker(row: Breaker) -> Labels:
    return (row.project, row.agent, row.network, row.component)


def _found(kind: str, per_row: int = 1) -> Callable[[Snapshot], int]:
    return lambda facts: facts.found[kind] * per_row


def _severity(row: AuditTotal) -> Labels:
    return (row.project, row.agent, row.network, row.event_type, row.severity or "")


def _transition(row: AuditTotal) -> Labels:
    return (row.project, row.agent, row.network, row.component or "", BREAKER_STATE_OF[row.event_type])


_OF_WALLET: dict[str, Any] = {
    "metric": GaugeMetricFamily,
    "labels": ("project", "agent", "network", "wallet", "asset"),
    "rows": lambda facts: facts.balances,
}
_OF_PAYMENT: dict[str, Any] = {
    "metric": CounterMetricFamily,
    "labels": ("project", "agent", "network", "asset", "status", "origin"),
    "found": _found("payments"),
    "rows": lambda facts: facts.payments,
}

FAMILIES = (
    Family(
        name="tollwatch_wallet_balance",
        documentation="Newest balance, in whole tokens.",
        found=_found("balances"),
        series=_each(_wallet, lambda row: in_tokens(row.amount, row.asset.decimals)),
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
        series=_each(_wallet, lambda row: row.ts.timestamp()),
        **_OF_WALLET,
    ),
    Family(
        name="tollwatch_wallet_runway_seconds",
        documentation="How long the newest balance lasts at the last 24 hours' outflow; absent: nothing flows out.",
        found=_found_runways,
        series=_runways,
        **_OF_WALLET,
    ),
    Family(
        name="tollwatch_payments",
        documentation="Payments that reached a status, by who said so first; repeats are not counted.",
        series=_each(_payment, lambda row: row.payments),
        **_OF_PAYMENT,
    ),
    Family(
        name="tollwatch_payment_amount",
        documentation="Money of the payments that reached a status, in whole tokens; repeats are not counted.",
        series=_each(_payment, lambda row: in_tokens(row.amount, row.asset.decimals)),
        **_OF_PAYMENT,
    ),
    Family(
        metric=CounterMetricFamily,
        name="tollwatch_requests",
        documentation="Attempts of requests, by outcome.",
        labels=("project", "agent", "network", "service", "outcome"),
        found=_found("requests"),
        rows=lambda facts: facts.requests,
        series=_each(
            lambda row: (*_service(row), row.outcome or ""),
            lambda row: row.requests,
        ),
    ),
    Family(
        metric=CounterMetricFamily,
        name="tollwatch_request_retries",
        documentation="Attempts of requests after the first.",
        labels=("project", "agent", "network", "service"),
        found=_found("services"),
        rows=lambda facts: facts.services,
        series=_each(_service, lambda row: row.retries),
    ),
    Family(
        metric=HistogramMetricFamily,
        name="tollwatch_request_duration_seconds",
        documentation="Latency of attempts that told one.",
        labels=("project", "agent", "network", "service"),
        found=_found("latency", HISTOGRAM_WIDTH),
        rows=lambda facts: facts.latencies,
        series=_each(_service, lambda row: histogram(row.cells, row.ms_sum)),
        width=HISTOGRAM_WIDTH,
    ),
    Family(
        metric=GaugeMetricFamily,
        name="tollwatch_circuit_breaker_state",
        documentation="1 for the state that a circuit breaker is in, 0 for the others.",
        labels=("project", "agent", "network", "component", "state"),
        found=_found("breakers", len(BREAKER_STATES)),
        rows=lambda facts: facts.breakers,
        series=_states,
    ),
    Family(
        metric=CounterMetricFamily,
        name="tollwatch_circuit_breaker_transitions",
        documentation="Times that a circuit breaker went into a state.",
        labels=("project", "agent", "network", "component", "state"),
        found=_found("transitions"),
        rows=lambda facts: facts.transitions,
        series=_each(_transition, lambda row: row.events),
    ),
    Family(
        metric=CounterMetricFamily,
        name="tollwatch_audit_events",
        documentation="Audit events, by type and severity; agent and network are empty for those of no agent.",
        labels=("project", "agent", "network", "event_type", "severity"),
        found=_found("audit"),
        rows=lambda facts: facts.audit,
        series=_each(_severity, lambda row: row.events),
    ),
    Family(
        metric=GaugeMetricFamily,
        name="tollwatch_queue_depth",
        documentation="Requests that wait now.",
        labels=("project", "agent", "network"),
        found=_found("queues"),
        rows=lambda facts: facts.queues,
        series=_each(
            lambda row: (row.project, row.agent, row.network),
            lambda row: row.waiting,
        ),
    ),
    Family(
        metric=GaugeMetricFamily,
        name="tollwatch_open_payments",
        documentation="Payments whose fate is not known, by status; absent: there are none.",
        labels=("project", "agent", "network", "status"),
        found=_found("open_payments"),
        rows=lambda facts: facts.open_payments,
        series=_each(
            lambda row: (row.project, row.agent, row.network, row.status),
            lambda row: row.payments,
        ),
    ),
)
