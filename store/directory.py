"""The directory: names that events use → ids that are stored, through bounded caches, one query per kind and batch.

An unknown agent stays unknown. An unknown wallet or mint is kept, unregistered: evidence is never thrown away, but only
so much of it (settings.max_unregistered per project).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.addresses import address_to_bytes, address_to_text
from store.aged_cache import AgedCache, Clock, utc_now
from store.deadlines import Deadlines
from store.engine import reading, writing
from store.errors import DatabaseError, DatabaseUnavailable, InvalidValue, NotFound
from store.named_sql import query
from store.presence import Presence
from store.settings import Settings

FRESH = timedelta(seconds=30)
"""Longest that an agent or a project is trusted without asking."""
MAX_AGE = timedelta(minutes=5)
"""The same while the database is away; and of wallets and assets, whose ids never change, always."""
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
_A = TypeVar("_A")


@dataclass(frozen=True, kw_only=True)
class Agent:
    """What ingest needs to know of an agent."""

    id: int
    network: str
    max_retries: int


class Directory:
    """Resolves names. One per process, safe to share between tasks."""

    def __init__(
        self,
        engine: AsyncEngine,
        settings: Settings,
        clock: Clock = utc_now,
        *,
        deadlines: Deadlines | None = None,
        presence: Presence | None = None,
    ) -> None:
        self._engine = engine
        self._deadlines = deadlines or Deadlines()
        self._presence = presence or Presence(clock)
        self._max_unregistered = settings.max_unregistered
        self._clock = clock
        self._projects: AgedCache[str, int] = AgedCache(MAX_PROJECTS_CACHED)
        self._agents: AgedCache[tuple[int, str], Agent] = AgedCache(MAX_AGENTS_CACHED)
        self._wallets: AgedCache[tuple[int, Address], int] = AgedCache(MAX_WALLETS_CACHED)
        self._assets: AgedCache[tuple[int, AssetName], int] = AgedCache(MAX_ASSETS_CACHED)

    async def project_id(self, name: str) -> int:
        """A project's id. Raises NotFound, DatabaseError."""
        now = self._clock()
        found = self._projects.get(name, now, FRESH)
        if found is not None:
            return found
        old = self._projects.get(name, now, MAX_AGE)
        try:
            rows = await self._ask("project_id", {"name": name}, has_old=old is not None)
        except DatabaseError:
            if old is None:
                raise
            return old
        if not rows:
            self._projects.drop(name)
            raise NotFound(f"there is no project {name!r}")
        self._projects.put(name, rows[0].id, now)
        return int(rows[0].id)

    async def agents(self, project_id: int, names: Iterable[str]) -> dict[str, Agent]:
        """The agents of these names; unknown ones are absent. Raises DatabaseError."""
        now = self._clock()
        known, missing = self._split(self._agents, project_id, names, FRESH)
        if not missing:
            return known
        old, unknown = self._split(self._agents, project_id, missing, MAX_AGE)
        values = {"project_id": project_id, "names": missing}
        try:
            rows = await self._ask("agents_by_name", values, has_old=not unknown)
        except DatabaseError:
            if unknown:
                raise
            return known | old
        for name in missing:
            self._agents.drop((project_id, name))
        for row in rows:
            known[row.name] = Agent(id=row.id, network=row.network, max_retries=row.max_retries)
            self._agents.put((project_id, row.name), known[row.name], now)
        return known

    async def _ask(self, name: str, values: Mapping[str, object], *, has_old: bool) -> Sequence[Row[Any]]:
        return await self._await(self._rows(name, values), has_old=has_old)

    async def _await(self, question: Coroutine[Any, Any, _A], *, has_old: bool) -> _A:
        """An answer. Raises DatabaseError: at once while the database is away, sooner if the cache will do instead."""
        if self._presence.is_away:
            question.close()
            raise DatabaseUnavailable
        seconds = self._deadlines.cached_look_up if has_old else self._deadlines.read_statement
        return await self._presence.ask(asyncio.create_task(question), seconds)

    async def _rows(self, name: str, values: Mapping[str, object]) -> Sequence[Row[Any]]:
        async with reading(self._engine) as connection:
            return (await connection.execute(text(query(name)), values)).all()

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
        if not missing:
            return known
        # An id never changes: while the database is away it is as good as it was.
        old, unknown = self._split(self._assets, project_id, missing, timedelta.max)
        try:
            found = await self._await(self._find_assets(project_id, missing), has_old=not unknown)
        except DatabaseError:
            if unknown:
                raise
            return known | old
        for name, asset_id in found.items():
            self._assets.put((project_id, name), asset_id, now)
        return known | found

    async def _find_assets(self, project_id: int, names: list[AssetName]) -> dict[AssetName, int]:
        mints = {name: mint for name in names if (mint := mint_of(name)) is not None}
        async with reading(self._engine) as connection:
            found = await _read_assets(connection, project_id, names, mints)
        lost = {name: mint for name, mint in mints.items() if name not in found}
        if lost:
            async with writing(self._engine) as connection:
                room = await _take_turn(connection, project_id, self._max_unregistered)
                found |= await _keep_assets(connection, project_id, dict(list(lost.items())[:room]))
        return found

    def _split(
        self,
        cache: AgedCache[tuple[int, _N], _V],
        project_id: int,
        names: Iterable[_N],
        max_age: timedelta = MAX_AGE,
    ) -> tuple[dict[_N, _V], list[_N]]:
        """What the cache has, and what is left, in the one order in which everybody writes."""
        now = self._clock()
        known: dict[_N, _V] = {}
        missing = []
        for name in names:
            value = cache.get((project_id, name), now, max_age)
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
