"""What is measured: every read of the API, every statement of every dashboard.

A case is one route in one of its forms; each repetition asks with other parameters, over ranges that end at random
within the data's last days. `kind`: head (present state), aggregate (rollups), rows (facts as they are stored).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Literal
from urllib.parse import quote, urlencode
from uuid import UUID

from bench.data import World
from tests.grafana.files import SqlOnPanel, sql_on_panels
from tests.grafana.macros import Looking, expand, interval_of

Kind = Literal["head", "aggregate", "rows"]
RANGES = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
HEADS = {"latest_balances", "open_payments", "breakers", "queue_state", "agents", "wallets", "assets", "session_usage"}
FACTS = {
    "payments",
    "api_requests",
    "audit_events",
    "queue_events",
    "balance_samples",
    "audit_trail",
    "breaker_intervals",
}
"""Views of a reader, by what is behind them; the others are of rollups."""
Ask = Callable[[Random, "Names"], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names to ask for: some of each."""

    agents: tuple[str, ...]
    services: tuple[str, ...]
    wallets: tuple[str, ...]
    payments: tuple[UUID, ...]
    requests: tuple[UUID, ...]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One form of one route. `ranges`: those of RANGES that it takes; none: it is not about time."""

    path: str
    kind: Kind
    form: str = ""
    ask: Ask = lambda _random, _names: {}
    ranges: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    """Settings that the API has beside its own, for this case alone."""

    @property
    def case(self) -> str:
        """How it is called in the lines."""
        return f"GET {self.path}" + (f" {self.form}" if self.form else "")

    def url(self, random: Random, names: Names, window: tuple[datetime, datetime] | None) -> str:
        """A request of it."""
        asked = dict(self.ask(random, names))
        path = self.path
        for name in [name for name in asked if "{" + name + "}" in path]:
            path = path.replace("{" + name + "}", quote(str(asked.pop(name))))
        if window is not None:
            asked |= {"from": window[0].isoformat(timespec="seconds"), "to": window[1].isoformat(timespec="seconds")}
        return path + ("?" + urlencode(asked) if asked else "")


def _agent(random: Random, names: Names) -> Mapping[str, object]:
    return {"agent": random.choice(names.agents)}


def _with(**fixed: object) -> Ask:
    return lambda _random, _names: fixed


def _and_agent(**fixed: object) -> Ask:
    return lambda random, names: {**fixed, "agent": random.choice(names.agents)}


ALL, UP_TO_DAYS = tuple(RANGES), ("24h", "7d", "30d")
ROUTES = (
    Route(path="/v1/agents", kind="head"),
    Route(path="/v1/agents/{name}", kind="head", ask=lambda random, names: {"name": random.choice(names.agents)}),
    Route(path="/v1/balances", kind="head"),
    Route(path="/v1/balances", kind="head", form="agent", ask=_agent),
    Route(path="/v1/balances", kind="head", form="1000 of them", ask=_with(limit=1000)),
    Route(path="/v1/balances/history", kind="rows", ranges=ALL),
    Route(path="/v1/balances/history", kind="rows", form="agent", ask=_agent, ranges=ALL),
    Route(path="/v1/balances/history", kind="aggregate", form="hours", ask=_with(bucket="1h"), ranges=ALL),
    Route(path="/v1/balances/history", kind="aggregate", form="hours, agent", ask=_and_agent(bucket="1h"), ranges=ALL),
    Route(
        path="/v1/balances/history", kind="aggregate", form="days, agent", ask=_and_agent(bucket="1d"), ranges=("30d",)
    ),
    Route(path="/v1/payments", kind="rows", ranges=ALL),
    Route(path="/v1/payments", kind="rows", form="agent", ask=_agent, ranges=ALL),
    Route(path="/v1/payments", kind="rows", form="failed", ask=_with(status="failed"), ranges=ALL),
    Route(path="/v1/payments", kind="rows", form="agent, failed", ask=_and_agent(status="failed"), ranges=ALL),
    Route(
        path="/v1/payments/{payment_id}",
        kind="rows",
        ask=lambda random, names: {"payment_id": random.choice(names.payments)},
    ),
    Route(path="/v1/requests", kind="rows", ranges=ALL),
    Route(path="/v1/requests", kind="rows", form="agent", ask=_agent, ranges=ALL),
    Route(path="/v1/requests", kind="rows", form="failed", ask=_with(outcome="failed"), ranges=ALL),
    Route(
        path="/v1/requests",
        kind="rows",
        form="one request",
        ask=lambda random, names: {"request_id": random.choice(names.requests)},
        ranges=("30d",),
    ),
    Route(path="/v1/audit-events", kind="rows", ranges=ALL),
    Route(path="/v1/audit-events", kind="rows", form="agent", ask=_agent, ranges=ALL),
    Route(path="/v1/audit-events", kind="rows", form="errors", ask=_with(severity="error"), ranges=ALL),
    Route(path="/v1/audit-trail", kind="rows", ranges=ALL),
    Route(path="/v1/audit-trail", kind="rows", form="agent", ask=_agent, ranges=ALL),
    Route(
        path="/v1/audit-trail",
        kind="rows",
        form="one request",
        ask=lambda random, names: {"request_id": random.choice(names.requests)},
        ranges=("30d",),
    ),
    Route(path="/v1/queue", kind="head"),
    Route(path="/v1/queue", kind="rows", form="history", ask=_with(history="true"), ranges=ALL),
    Route(path="/v1/sessions", kind="head"),
    Route(path="/v1/sessions", kind="head", form="agent", ask=_agent),
    Route(path="/v1/payments/hourly", kind="aggregate", ranges=ALL),
    Route(path="/v1/payments/hourly", kind="aggregate", form="agent", ask=_agent, ranges=ALL),
    Route(
        path="/v1/payments/hourly", kind="aggregate", form="by service", ask=_with(group_by="asset,service"), ranges=ALL
    ),
    Route(
        path="/v1/payments/hourly", kind="aggregate", form="by agent", ask=_with(group_by="agent,status"), ranges=ALL
    ),
    Route(path="/v1/payments/hourly", kind="aggregate", form="days", ask=_with(bucket="1d"), ranges=("30d",)),
    Route(path="/v1/requests/hourly", kind="aggregate", ranges=ALL),
    Route(path="/v1/requests/hourly", kind="aggregate", form="agent", ask=_agent, ranges=ALL),
    Route(path="/v1/requests/hourly", kind="aggregate", form="quantiles", ask=_with(quantiles="true"), ranges=ALL),
    Route(
        path="/v1/requests/hourly",
        kind="aggregate",
        form="quantiles by service",
        ask=_with(quantiles="true", group_by="service"),
        ranges=ALL,
    ),
    Route(path="/v1/requests/hourly", kind="aggregate", form="days", ask=_with(bucket="1d"), ranges=("30d",)),
    Route(path="/v1/breakers", kind="head"),
    Route(path="/v1/breakers", kind="rows", form="history", ask=_with(history="true"), ranges=ALL),
    Route(path="/v1/retry-health", kind="aggregate", ranges=ALL),
    Route(path="/v1/retry-health", kind="aggregate", form="agent", ask=_agent, ranges=ALL),
    Route(
        path="/v1/retry-health",
        kind="aggregate",
        form="total by service",
        ask=_with(bucket="total", group_by="service"),
        ranges=ALL,
    ),
    Route(path="/v1/runway", kind="aggregate"),
    Route(path="/v1/runway", kind="aggregate", form="agent", ask=_agent),
    Route(path="/v1/spend", kind="aggregate", ranges=ALL),
    Route(path="/v1/spend", kind="aggregate", form="agent", ask=_agent, ranges=ALL),
    Route(path="/v1/spend", kind="aggregate", form="days", ask=_with(bucket="1d"), ranges=("30d",)),
    Route(path="/metrics", kind="aggregate"),
    Route(path="/metrics", kind="aggregate", form="read anew", environ={"TOLLWATCH_METRICS_INTERVAL": "0s"}),
)
NOT_READS = {
    *("/v1/stream", "/v1/schemas", "/v1/schemas/{event_type}"),
    *("/v1/keys", "/v1/keys/{prefix}", "/healthz", "/readyz"),
}
"""GET routes that answer no question about facts: the stream never ends, the others ask for none."""


@dataclass(frozen=True, kw_only=True)
class PanelQuery:
    """One statement of a dashboard, as somebody looks at it."""

    of: SqlOnPanel
    number: int

    @property
    def case(self) -> str:
        """How it is called in the lines; a panel's second statement is told apart."""
        return f"panel {self.of.board}: {self.of.panel['title']}" + (f" ({self.number})" if self.number else "")

    @property
    def kind(self) -> Kind:
        """By the views that it reads."""
        words = set(self.of.sql.replace("(", " ").split())
        if words & FACTS:
            return "rows"
        return (
            "head" if words & HEADS and not any("_hourly" in word or "spend" in word for word in words) else "aggregate"
        )

    def sql(self, start: datetime, end: datetime, variables: Mapping[str, tuple[str, ...]]) -> str:
        """The statement that reaches the database."""
        panel = self.of.panel
        interval = interval_of(start, end, panel.get("interval", "1s"), panel.get("maxDataPoints", 720))
        return expand(self.of.sql, Looking(start=start, end=end, interval=interval, variables=variables))


def panel_queries() -> Iterator[PanelQuery]:
    """Every statement of every dashboard on PostgreSQL, annotations included."""
    seen: dict[tuple[str, str], int] = {}
    for found in sql_on_panels():
        key = (found.board, found.panel["title"])
        number = seen[key] = seen.get(key, -1) + 1
        yield PanelQuery(of=found, number=number)


def window(world: World, name: str, random: Random) -> tuple[datetime, datetime]:
    """A range of that length that ends within the last day of the data; the longest one is all of it."""
    span = RANGES[name]
    room = max(timedelta(0), min(timedelta(hours=24), world.end - world.start - span))
    end = world.end - room * random.random()
    end = end.replace(microsecond=0)
    return end - span, end
