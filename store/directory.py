"""The directory: names that events use → ids that are stored, through bounded caches, one query per kind and batch.

An unknown agent stays unknown. An unknown wallet or mint is kept, unregistered: evidence is never thrown away, but only
so much of it (settings.max_unregistered per project).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.addresses import address_to_bytes, address_to_text
from store.aged_cache import AgedCache, Clock, utc_now
from store.engine import reading, writing
from store.errors import InvalidValue, NotFound
from store.named_sql import query
from store.settings import Settings

MAX_AGE = timedelta(minutes=5)
"""Longest that a name is trusted without asking; the same while the database is away."""
MAX_AGENTS_CACHED = 10_000
MAX_WALLETS_CACHED = 50_000
MAX_ASSETS_CACHED = 10_000
MAX_PROJECTS_CACHED = 100

Address = tuple[str, bytes]
"""CAIP-2 network, raw address."""
AssetName = tuple[str, str]
"""CAIP-2 network, symbol or mint in the network's notation."""
_N = TypeVar("_N", str, Address, AssetName)
_V = TypeVar("_V")


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What ingest needs to know of an agent."""

    id: int
    network: str
    max_retries: int


class Directory:
    """Resolves names. One per process, safe to share between tasks."""

    def __init__(self, engine: AsyncEngine, settings: Settings, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._max_unregistered = settings.max_unregistered
        self._clock = clock
        self._projects: AgedCache[str, int] = AgedCache(MAX_PROJECTS_CACHED)
        self._agents: AgedCache[tuple[int, str], Agent] = AgedCache(MAX_AGENTS_CACHED)
        self._wallets: AgedCache[tuple[int, Address], int] = AgedCache(MAX_WALLETS_CACHED)
        self._assets: AgedCache[tuple[int, AssetName], int] = AgedCache(MAX_ASSETS_CACHED)

    async def project_id(self, name: str) -> int:
        """A project's id. Raises NotFound, DatabaseError."""
        now = self._clock()
        found = self._projects.get(name, now, MAX_AGE)
        if found is not None:
            return found
        async with reading(self._engine) as connection:
            row = (await connection.execute(text(query("project_id")), {"name": name})).one_or_none()
        if row is None:
            raise NotFound(f"there is no project {name!r}")
        self._projects.put(name, row.id, now)
        return int(row.id)

    async def agents(self, project_id: int, names: Iterable[str]) -> dict[str, Agent]:
        """The agents of these names; unknown ones are absent. Raises DatabaseError."""
        now = self._clock()
        known, missing = self._split(self._agents, project_id, names)
        if missing:
            values = {"project_id": project_id, "names": missing}
            async with reading(self._engine) as connection:
                rows = (await connection.execute(text(query("agents_by_name")), values)).all()
            for row in rows:
                known[row.name] = Agent(id=row.id, network=row.network, max_retries=row.max_retries)
                self._agents.put((project_id, row.name), known[row.name], now)
        return known

    def forget_agent(self, project_id: int, name: str) -> None:
        """An agent changed: ask again."""
        self._agents.drop((project_id, name))

    async def wallets(self, project_id: int, addresses: Iterable[Address]) -> dict[Address, int]:
        """Ids by address. Those that nobody registered are kept; absent: beyond the limit. Raises DatabaseError."""
        now = self._clock()
        known, missing = self._split(self._wallets, project_id, addresses)
        if missing:
            async with reading(self._engine) as connection:
                found = await _read_wallets(connection, project_id, missing)
            lost = [address for address in missing if address not in found]
            if lost:
                async with writing(self._engine) as connection:
                    room = await _take_turn(connection, project_id, self._max_unregistered)
                    found |= await _keep_wallets(connection, project_id, lost[:room])
            for address, wallet_id in found.items():
                self._wallets.put((project_id, address), wallet_id, now)
            known |= found
        return known

    async def assets(self, project_id: int, names: Iterable[AssetName]) -> dict[AssetName, int]:
        """Ids by symbol or mint. Mints that nobody registered are kept; absent: beyond the limit, or no mint at all.

        Raises DatabaseError.
        """
        now = self._clock()
        known, missing = self._split(self._assets, project_id, names)
        if missing:
            mints = {name: mint for name in missing if (mint := mint_of(name)) is not None}
            async with reading(self._engine) as connection:
                found = await _read_assets(connection, project_id, missing, mints)
            lost = {name: mint for name, mint in mints.items() if name not in found}
            if lost:
                async with writing(self._engine) as connection:
                    room = await _take_turn(connection, project_id, self._max_unregistered)
                    found |= await _keep_assets(connection, project_id, dict(list(lost.items())[:room]))
            for name, asset_id in found.items():
                self._assets.put((project_id, name), asset_id, now)
            known |= found
        return known

    def _split(
        self, cache: AgedCache[tuple[int, _N], _V], project_id: int, names: Iterable[_N]
    ) -> tuple[dict[_N, _V], list[_N]]:
        """What the cache has, and what is left, in the one order in which everybody writes."""
        now = self._clock()
        known: dict[_N, _V] = {}
        missing = []
        for name in names:
            value = cache.get((project_id, name), now, MAX_AGE)
            if value is None:
                missing.append(name)
            else:
                known[name] = value
        return known, sorted(missing)


def mint_of(name: AssetName) -> bytes | None:
    """The raw mint, if the name is the address of one."""
    network, symbol_or_mint = name
    try:
        return address_to_bytes(network, symbol_or_mint)
    except InvalidValue:
        return None


async def _take_turn(connection: AsyncConnection, project_id: int, limit: int) -> int:
    """Wait until no one else adds to the project. Returns how many names may still be kept."""
    values = {"project_id": project_id}
    await connection.execute(text(query("lock_unregistered")), values)
    count = (await connection.execute(text(query("count_unregistered")), values)).scalar_one()
    return max(0, limit - int(count))


async def _read_wallets(connection: AsyncConnection, project_id: int, wallets: list[Address]) -> dict[Address, int]:
    values = {"project_id": project_id, "networks": [w[0] for w in wallets], "addresses": [w[1] for w in wallets]}
    rows = await connection.execute(text(query("wallets_by_address")), values)
    return {(row.network, row.address): row.id for row in rows}


async def _keep_wallets(connection: AsyncConnection, project_id: int, wallets: list[Address]) -> dict[Address, int]:
    """Insert what is still not there; what another process inserted meanwhile is read."""
    if not wallets:
        return {}
    values = {
        "project_id": project_id,
        "networks": [network for network, _ in wallets],
        "addresses": [raw for _, raw in wallets],
        "texts": [address_to_text(raw) for _, raw in wallets],
    }
    await connection.execute(text(query("keep_unregistered_wallets")), values)
    return await _read_wallets(connection, project_id, wallets)


async def _read_assets(
    connection: AsyncConnection, project_id: int, assets: list[AssetName], mints: Mapping[AssetName, bytes]
) -> dict[AssetName, int]:
    values = {
        "project_id": project_id,
        "networks": sorted({network for network, _ in assets}),
        "symbols": sorted({name for _, name in assets}),
        "mints": sorted(set(mints.values())),
    }
    rows = (await connection.execute(text(query("assets_by_name")), values)).all()
    found = {name: _best(rows, name, mints.get(name)) for name in assets}
    return {name: asset_id for name, asset_id in found.items() if asset_id is not None}


def _best(rows: Iterable[Row[Any]], name: AssetName, mint: bytes | None) -> int | None:
    network, symbol = name
    for row in rows:
        if row.network == network and (row.mint == mint if mint is not None else row.symbol == symbol):
            return int(row.id)
    return None


async def _keep_assets(
    connection: AsyncConnection, project_id: int, mints: dict[AssetName, bytes]
) -> dict[AssetName, int]:
    if not mints:
        return {}
    values = {
        "project_id": project_id,
        "networks": [network for network, _ in mints],
        "mints": list(mints.values()),
        "texts": [address_to_text(raw) for raw in mints.values()],
    }
    await connection.execute(text(query("keep_unregistered_assets")), values)
    return await _read_assets(connection, project_id, list(mints), mints)
