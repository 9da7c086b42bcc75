"""One snapshot of the facts that the Prometheus exporter tells, read in one transaction.

Repeatable read, read only: totals, balances and breakers are of one moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.edition import Edition
from store.engine import reading
from store.horizons import ROLLUPS
from store.named_sql import query
from store.rollups import exact_until


@dataclass(frozen=True, kw_only=True)
class Asset:
    """How an asset is written: `label` is its symbol, or its mint where an older asset has the symbol already."""

    network: str
    symbol: str
    decimals: int
    mint: bytes | None


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Newest balance of one wallet and asset, in atomic units."""

    project: str
    agent: str
    network: str
    wallet: str
    asset: Asset
    amount: int
    threshold: int | None
    ts: datetime


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
    """Facts of one moment. `found`: rows of each kind, returned or not. `lags`: seconds of each rollup."""

    balances: list[Balance]
    payments: list[PaymentTotal]
    requests: list[RequestTotal]
    services: list[RequestTotal]
    breakers: list[Breaker]
    found: Mapping[str, int]
    lags: Mapping[str, float]


async def read(engine: AsyncEngine, edition: Edition, *, project_id: int | None, most: int) -> Snapshot:
    """At most `most` rows of each kind, of one project or (None) all. Raises DatabaseError."""
    async with reading(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        values = {"project_id": project_id, "most": most}
        rows = {
            name: (await connection.execute(text(query(f"metrics_{name}")), values)).mappings().all()
            for name in ("balances", "payments", "requests", "breakers")
        }
        assets = await _assets(connection, {row["asset_id"] for name in ("balances", "payments") for row in rows[name]})
        lags = await _lags(connection, edition)
    return _snapshot(rows, assets, lags)


async def _assets(connection: AsyncConnection, asset_ids: set[int]) -> dict[int, Asset]:
    found = await connection.execute(text(query("metrics_assets")), {"asset_ids": sorted(asset_ids)})
    return {row["asset_id"]: Asset(**_without(row, "asset_id")) for row in found.mappings()}


async def _lags(connection: AsyncConnection, edition: Edition) -> dict[str, float]:
    now = (await connection.execute(text(query("metrics_now")))).scalar_one()
    exact = {rollup.name: await exact_until(connection, edition, rollup.name) for rollup in ROLLUPS}
    return {name: max(0.0, (now - moment).total_seconds()) for name, moment in exact.items()}


def _snapshot(
    rows: dict[str, Sequence[RowMapping]], assets: Mapping[int, Asset], lags: Mapping[str, float]
) -> Snapshot:
    by_outcome = [row for row in rows["requests"] if row["outcome"] is not None]
    over_all = [row for row in rows["requests"] if row["outcome"] is None]
    kinds: dict[str, Sequence[RowMapping]] = rows | {"requests": by_outcome, "services": over_all}
    return Snapshot(
        balances=[Balance(asset=assets[row["asset_id"]], **_without(row, "asset_id")) for row in rows["balances"]],
        payments=[_payment_total(row, assets) for row in rows["payments"]],
        requests=[_request_total(row) for row in by_outcome],
        services=[_request_total(row) for row in over_all],
        breakers=[Breaker(**_without(row)) for row in rows["breakers"]],
        found={name: kind[0]["found"] if kind else 0 for name, kind in kinds.items()},
        lags=lags,
    )


def _payment_total(row: RowMapping, assets: Mapping[int, Asset]) -> PaymentTotal:
    values = _without(row, "asset_id") | {"payments": int(row["payments"]), "amount": int(row["amount"])}
    return PaymentTotal(asset=assets[row["asset_id"]], **values)


def _request_total(row: RowMapping) -> RequestTotal:
    return RequestTotal(**_without(row) | {"requests": int(row["requests"]), "retries": int(row["retries"])})


def _without(row: RowMapping, *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in (*names, "found")}
