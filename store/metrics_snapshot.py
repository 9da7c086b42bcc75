"""One snapshot of the facts that the Prometheus exporter tells, read in one transaction.

Repeatable read, read only: totals, balances and breakers are of one moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.edition import Edition
from store.engine import reading
from store.horizons import DAY, ROLLUPS
from store.named_sql import query
from store.rollups import exact_until
from store.server import ServerFigures


@dataclass(frozen=True, kw_only=True)
class Asset:
    """How an asset is written: `label` is its symbol, or its mint where an older asset has the symbol already."""

    network: str
    symbol: str
    decimals: int
    mint: bytes | None


@dataclass(frozen=True, kw_only=True)
class Balance:
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


@dataclass(frozen=True, kw_only=True)
class PaymentTotal:
    """Payments of one agent, asset, status and origin since the beginning; amount in atomic units."""

    project: str
    agent: str
    asset: Asset
    status: str
    origin: str
    payments: int
    amount: int


@dataclass(frozen=True, kw_only=True)
class RequestTotal:
    """Attempts of one agent and service since the beginning; outcome None: over all outcomes."""

    project: str
    agent: str
    network: str
    service: str
    outcome: str | None
    requests: int
    retries: int
    latency_ms_sum: int


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latencies since the beginning, of one agent and service: attempts by cell n, 10^(n/20) ≤ ms < 10^((n+1)/20)."""

    project: str
    agent: str
    network: str
    service: str
    cells: Mapping[int, int]
    ms_sum: int


@dataclass(frozen=True, kw_only=True)
class AuditTotal:
    """Audit events since the beginning: of one type and severity, or of one type and component (the other is None)."""

    project: str
    agent: str
    network: str
    event_type: str
    severity: str | None
    component: str | None
    events: int


@dataclass(frozen=True, kw_only=True)
class Queue:
    """How many requests of one agent wait now."""

    project: str
    agent: str
    network: str
    waiting: int


@dataclass(frozen=True, kw_only=True)
class OpenPayments:
    """How many payments of one agent have a fate that is not known."""

    project: str
    agent: str
    network: str
    status: str
    payments: int


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Present state of one circuit breaker."""

    project: str
    agent: str
    network: str
    component: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Facts of one moment. `found`: rows of each kind, returned or not. `lags`: seconds of each rollup.

    `server`: of the server behind them, read beside them.
    """

    balances: list[Balance]
    payments: list[PaymentTotal]
    requests: list[RequestTotal]
    services: list[RequestTotal]
    latencies: list[Latency]
    breakers: list[Breaker]
    transitions: list[AuditTotal]
    audit: list[AuditTotal]
    queues: list[Queue]
    open_payments: list[OpenPayments]
    found: Mapping[str, int]
    lags: Mapping[str, float]
    server: ServerFigures | None = None


KINDS = ("balances", "payments", "requests", "latency", "breakers", "audit", "queues", "open_payments")
"""What is read, by the names of the statements."""
TOTALS = {
    "payments": ("payments", "payments_daily"),
    "requests": ("api_requests", "requests_daily"),
    "latency": ("api_requests", "request_latency_daily"),
    "audit": ("audit_events", "audit_daily"),
}
"""Those that are totals: the relation whose fold they begin with, and the days that they are read as."""
Rows = Sequence[RowMapping]


async def read(engine: AsyncEngine, edition: Edition, *, project_id: int | None, most: int) -> Snapshot:
    """At most `most` rows of each kind, of one project or (None) all. Raises DatabaseError."""
    async with reading(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        exact = {rollup.name: await exact_until(connection, edition, rollup.name) for rollup in ROLLUPS}
        values = {"project_id": project_id, "most": most}
        folded = {row.relation: row.folded_until for row in await connection.execute(text(query("metrics_folded")))}
        rows: dict[str, Rows] = {}
        for name in KINDS:
            asked = values | (_parts(folded, exact, *TOTALS[name]) if name in TOTALS else {})
            found = await connection.execute(text(query(f"metrics_{name}")), asked)
            rows[name] = found.mappings().all()
        assets = await _assets(connection, {row["asset_id"] for name in ("balances", "payments") for row in rows[name]})
        now = (await connection.execute(text(query("metrics_now")))).scalar_one()
    lags = {name: max(0.0, (now - moment).total_seconds()) for name, moment in exact.items()}
    return _snapshot(_split(rows), assets, lags)


async def _assets(connection: AsyncConnection, asset_ids: set[int]) -> dict[int, Asset]:
    found = await connection.execute(text(query("metrics_assets")), {"asset_ids": sorted(asset_ids)})
    return {row["asset_id"]: Asset(**_without(row, "asset_id")) for row in found.mappings()}


def _parts(folded: Mapping[str, datetime], exact: Mapping[str, datetime], relation: str, days: str) -> dict[str, Any]:
    """Where what is not folded is read as days: only days that hold exactly what their hours do.

    A day with a pending change is read as hours, and all after it: in the hours a late row may be there already, and a
    total that had it must not lose it.
    """
    until = folded[relation]
    first_day = _floor_day(until + DAY - timedelta(microseconds=1))
    return {
        "folded_until": until,
        "first_day": first_day,
        "last_day": max(first_day, _floor_day(exact[days])),
    }


def _floor_day(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _split(rows: dict[str, Rows]) -> dict[str, Rows]:
    """Rows by family: two statements answer for two families each."""
    return rows | {
        "requests": [row for row in rows["requests"] if row["outcome"] is not None],
        "services": [row for row in rows["requests"] if row["outcome"] is None],
        "audit": [row for row in rows["audit"] if row["severity"] is not None],
        "transitions": [row for row in rows["audit"] if row["severity"] is None],
    }


def _snapshot(rows: dict[str, Rows], assets: Mapping[int, Asset], lags: Mapping[str, float]) -> Snapshot:
    services = [RequestTotal(**_without(row)) for row in rows["services"]]
    return Snapshot(
        balances=[Balance(asset=assets[row["asset_id"]], **_without(row, "asset_id")) for row in rows["balances"]],
        payments=[PaymentTotal(asset=assets[row["asset_id"]], **_without(row, "asset_id")) for row in rows["payments"]],
        requests=[RequestTotal(**_without(row)) for row in rows["requests"]],
        services=services,
        latencies=_latencies(rows["latency"], services),
        breakers=[Breaker(**_without(row)) for row in rows["breakers"]],
        transitions=[AuditTotal(**_without(row)) for row in rows["transitions"]],
        audit=[AuditTotal(**_without(row)) for row in rows["audit"]],
        queues=[Queue(**_without(row)) for row in rows["queues"]],
        open_payments=[OpenPayments(**_without(row)) for row in rows["open_payments"]],
        found={name: kind[0]["found"] if kind else 0 for name, kind in rows.items()},
        lags=lags,
    )


def _latencies(rows: Rows, services: Sequence[RequestTotal]) -> list[Latency]:
    """With the sums, which the totals of attempts have; who is beyond their limit is left out."""
    sums = {(total.project, total.agent, total.service): total.latency_ms_sum for total in services}
    return [
        Latency(
            cells=dict(zip(row["cells"], row["counts"], strict=True)),
            ms_sum=sums[row["project"], row["agent"], row["service"]],
            **_without(row, "cells", "counts"),
        )
        for row in rows
        if (row["project"], row["agent"], row["service"]) in sums
    ]


def _without(row: RowMapping, *names: str) -> dict[str, Any]:
    """The columns as a value's fields; sums come as `numeric`, and are whole."""
    return {
        name: int(value) if isinstance(value, Decimal) else value
        for name, value in row.items()
        if name not in (*names, "found")
    }
