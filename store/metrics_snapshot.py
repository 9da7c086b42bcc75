"""One snapshot of the facts that the Prometheus exporter tells, read in one transaction.

Repeatable read, read only: totals, balances and breakers are of one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.edition import Edition
from store.engine import reading
from store.horizons import ROLLUPS
from store.metrics_totals import LATE_SECONDS, Key, Moment, Total, Totals, breathing
from store.named_sql import query
from store.rollups import exact_until
from store.server import ServerFigures


class Asset(NamedTuple):
    """How an asset is written: `label` is its symbol, or its mint where an older asset has the symbol already."""

    network: str
    symbol: str
    decimals: int
    mint: bytes | None


class Balance(NamedTuple):
    """Newest balance of one wallet and asset, in atomic units; `runway_s` None: nothing flows out."""

    project: str
    agent: str
    network: str
    wallet: str
    asset: Asset
    amount: int
    threshold: int | None
    ts: datetime
    runway_s: float | None


class PaymentTotal(NamedTuple):
    """Payments of one agent, asset, status and origin since the beginning; amount in atomic units."""

    project: str
    agent: str
    asset: Asset
    status: str
    origin: str
    payments: int
    amount: int


class RequestTotal(NamedTuple):
    """Attempts of one agent and service since the beginning; outcome None: over all outcomes."""

    project: str
    agent: str
    network: str
    service: str
    outcome: str | None
    requests: int
    retries: int
    latency_ms_sum: int


class Latency(NamedTuple):
    """Latencies since the beginning, of one agent and service: attempts by cell n, 10^(n/20) ≤ ms < 10^((n+1)/20)."""

    project: str
    agent: str
    network: str
    service: str
    cells: Mapping[int, int]
    ms_sum: int


class AuditTotal(NamedTuple):
    """Audit events since the beginning: of one type and severity, or of one type and component (the other is None)."""

    project: str
    agent: str
    network: str
    event_type: str
    severity: str | None
    component: str | None
    events: int


class Queue(NamedTuple):
    """How many requests of one agent wait now."""

    project: str
    agent: str
    network: str
    waiting: int


class OpenPayments(NamedTuple):
    """How many payments of one agent have a fate that is not known."""

    project: str
    agent: str
    network: str
    status: str
    payments: int


class Breaker(NamedTuple):
    """Present state of one circuit breaker."""

    project: str
    agent: str
    network: str
    component: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Facts of one moment. `found`: rows of each kind, returned or not (of totals that are not all returned, at least
    so many). `lags`: seconds of each rollup. A list that equals the one of the snapshot before is the same object.

    `settled_reads`: how often what settled was read as a whole. `server`: of the server behind them, read beside them.
    """

    balances: Sequence[Balance]
    payments: Sequence[PaymentTotal]
    requests: Sequence[RequestTotal]
    services: Sequence[RequestTotal]
    latencies: Sequence[Latency]
    breakers: Sequence[Breaker]
    transitions: Sequence[AuditTotal]
    audit: Sequence[AuditTotal]
    queues: Sequence[Queue]
    open_payments: Sequence[OpenPayments]
    found: Mapping[str, int]
    lags: Mapping[str, float]
    settled_reads: int = 0
    server: ServerFigures | None = None


GAUGES = ("balances", "breakers", "queues", "open_payments")
"""What is read as it is now, by the names of the statements; the rest are totals."""
Names = Mapping[tuple[int, int], tuple[str, str, str]]
"""(project id, agent id) → project, agent, network."""
Rows = Sequence[Any]


@dataclass(kw_only=True)
class Facts:
    """Reads the facts of one project, or (None) of all, again and again, and keeps what totals are made of.

    At most `most` rows of each kind, `most_latencies` histograms. `statement`: seconds that one may take.
    `late`: see `Totals`. Not to be read twice at once.
    """

    engine: AsyncEngine
    edition: Edition
    project_id: int | None
    most: int
    most_latencies: int
    statement: float
    late: float = LATE_SECONDS
    totals: Totals = field(init=False)
    _told: dict[str, tuple[object, Sequence[Any]]] = field(default_factory=dict)
    _names: Names = field(default_factory=dict)
    _assets: Mapping[int, Asset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.totals = Totals(
            project_id=self.project_id, most=self.most, most_latencies=self.most_latencies, late=self.late
        )

    async def read(self) -> Snapshot:
        """A snapshot of now. Raises DatabaseError."""
        async with reading(self.engine) as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            values = {"name": "statement_timeout", "value": str(int(self.statement * 1000))}
            await connection.execute(text(query("set_local")), values)
            moment = await read_moment(connection, self.edition)
            totals = await self.totals.read(connection, moment)
            gauges = {name: await self._rows(connection, f"metrics_{name}", most=self.most) for name in GAUGES}
            names = await self._rows(connection, "metrics_names")
            asset_ids = {row.asset_id for row in gauges["balances"]} | {key[2] for key, _ in totals["payments"].rows}
            assets = (await connection.execute(text(query("metrics_assets")), {"asset_ids": sorted(asset_ids)})).all()
        return await asyncio.to_thread(self._snapshot, moment, totals, gauges, names, assets)

    async def _rows(self, connection: AsyncConnection, statement: str, **values: Any) -> Rows:
        return (await connection.execute(text(query(statement)), {"project_id": self.project_id, **values})).all()

    def _snapshot(
        self, moment: Moment, totals: Mapping[str, Total], gauges: Mapping[str, Rows], names: Rows, assets: Rows
    ) -> Snapshot:
        self._know({(row[0], row[1]): tuple(row[2:5]) for row in names}, {row[0]: Asset(*row[1:]) for row in assets})
        kinds: dict[str, Any] = {
            "balances": self._list("balances", gauges["balances"], self._balance),
            "breakers": self._list("breakers", gauges["breakers"], lambda row: Breaker(*row[:-1])),
            "queues": self._list("queues", gauges["queues"], lambda row: Queue(*row[:-1])),
            "open_payments": self._list("open_payments", gauges["open_payments"], lambda row: OpenPayments(*row[:-1])),
            "payments": self._list("payments", totals["payments"].rows, self._payment),
            "requests": self._list("requests", totals["requests"].rows, self._request),
            "services": self._list("services", totals["services"].rows, self._request),
            "audit": self._list("audit", totals["audit"].rows, self._audit),
            "transitions": self._list("transitions", totals["transitions"].rows, self._transition),
        }
        sums = {key: sums[2] for key, sums in totals["services"].rows}
        latencies = self._list("latency", totals["latency"].rows, lambda row: self._latency(row, sums), beside=sums)
        found = {name: rows[0].found if rows else 0 for name, rows in gauges.items()}
        return Snapshot(
            **kinds,
            latencies=latencies,
            settled_reads=self.totals.settled_reads,
            found=found | {name: total.found for name, total in totals.items()},
            lags={name: max(0.0, (moment.now - exact).total_seconds()) for name, exact in moment.exact.items()},
        )

    def _know(self, names: Names, assets: Mapping[int, Asset]) -> None:
        """What ids are called. Where one is called otherwise than before, everything is told anew."""
        if (names, assets) != (self._names, self._assets):
            self._told.clear()
            self._names, self._assets = names, assets

    def _list(self, kind: str, rows: Rows, made: Callable[[Any], Any], beside: object = None) -> Sequence[Any]:
        """Rows as values; the same list as before if the rows are. Whoever is called nothing any more was erased."""
        told, values = self._told.get(kind, (None, ()))
        if told != (rows, beside):
            values = [value for row in breathing(rows) if (value := made(row)) is not None]
            self._told[kind] = ((rows, beside), values)
        return values

    def _balance(self, row: Any) -> Balance:
        project, agent, network, wallet, asset_id, amount, threshold, ts, runway_s, _ = row
        values = (int(amount), None if threshold is None else int(threshold), ts, runway_s)
        return Balance(project, agent, network, wallet, self._assets[asset_id], *values)

    def _payment(self, row: tuple[Key, Any]) -> PaymentTotal | None:
        (project_id, agent_id, asset_id, status, origin), (payments, amount) = row
        who = self._names.get((project_id, agent_id))
        return who and PaymentTotal(who[0], who[1], self._assets[asset_id], status, origin, payments, amount)

    def _request(self, row: tuple[Key, Any]) -> RequestTotal | None:
        (project_id, agent_id, service, *outcome), sums = row
        who = self._names.get((project_id, agent_id))
        return who and RequestTotal(*who, service, outcome[0] if outcome else None, *sums)

    def _latency(self, row: tuple[Key, Any], sums: Mapping[Key, int]) -> Latency | None:
        """With the sum of what lasted, which the totals of attempts have; who is beyond their limit is left out."""
        key, cells = row
        who = self._names.get((key[0], key[1]))
        return Latency(*who, key[2], cells, sums[key]) if who and key in sums else None

    def _audit(self, row: tuple[Key, Any]) -> AuditTotal | None:
        (project_id, agent_id, event_type, severity), (events,) = row
        who = self._names.get((project_id, agent_id))
        return who and AuditTotal(*who, event_type, severity, None, events)

    def _transition(self, row: tuple[Key, Any]) -> AuditTotal | None:
        (project_id, agent_id, event_type, component), (events,) = row
        who = self._names.get((project_id, agent_id))
        return who and AuditTotal(*who, event_type, None, component, events)


async def read_moment(connection: AsyncConnection, edition: Edition) -> Moment:
    """What is known of the snapshot of a transaction. Raises DatabaseError."""
    exact = {rollup.name: await exact_until(connection, edition, rollup.name) for rollup in ROLLUPS}
    folded = {row.relation: row.folded_until for row in await connection.execute(text(query("metrics_folded")))}
    now = (await connection.execute(text(query("metrics_now")))).scalar_one()
    return Moment(now=now, exact=exact, folded=folded)
