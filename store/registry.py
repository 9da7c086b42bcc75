"""Registration of agents and wallets: the same request again changes nothing, a different one makes it so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.addresses import address_to_bytes, address_to_text
from store.directory import Directory
from store.engine import writing
from store.errors import InvalidValue, NotFound
from store.named_sql import query

MAX_AGENTS = 10_000
"""Agents of one project, archived ones included."""
MAX_WALLETS = 50_000
"""Registered wallets of one project."""


class WalletTaken(InvalidValue):
    """The wallet is registered to another agent of the project."""


@dataclass(frozen=True, kw_only=True)
class AgentEntry:
    """All that is registered about an agent, without secrets. low_balance_threshold is in whole tokens."""

    name: str
    network: str
    autonomy_phase: str
    api_endpoints: Sequence[Mapping[str, object]]
    priority_rules: Mapping[str, object]
    max_retries: int
    low_balance_threshold: Decimal
    breaker_timeout_s: int
    active: bool


@dataclass(frozen=True, kw_only=True)
class WalletEntry:
    """A wallet as it is registered. Thresholds: atomic units by symbol or mint. network None: the agent's."""

    agent: str
    address: str
    network: str | None
    thresholds: Mapping[str, int]


async def put_agent(engine: AsyncEngine, project_id: int, entry: AgentEntry) -> bool:
    """Register or change an agent. Returns whether it is new. Raises InvalidValue (no room), DatabaseError."""
    values = {
        **vars(entry),
        "api_endpoints": json.dumps(list(entry.api_endpoints)),
        "priority_rules": json.dumps(entry.priority_rules),
        "project_id": project_id,
        "max_agents": MAX_AGENTS,
    }
    async with writing(engine) as connection:
        created = (await connection.execute(text(query("put_agent")), values)).scalar_one_or_none()
        if created is None and not (await connection.execute(text(query("agent_exists")), values)).scalar_one():
            raise InvalidValue(f"the project has {MAX_AGENTS} agents already; use another project")
    return bool(created)


async def put_wallet(
    engine: AsyncEngine, directory: Directory, project_id: int, entry: WalletEntry
) -> tuple[bool, WalletEntry]:
    """Register a wallet and set its thresholds. Returns whether it is new, and what is registered now.

    Raises NotFound (the agent), WalletTaken, InvalidValue (address, asset, no room) and DatabaseError.
    """
    agent = (await directory.agents(project_id, [entry.agent])).get(entry.agent)
    if agent is None:
        raise NotFound(f"no agent {entry.agent!r} is registered; PUT /v1/agents/{entry.agent} first")
    network = entry.network or agent.network
    address = address_to_bytes(network, entry.address)
    amounts = await _by_asset(directory, project_id, network, entry.thresholds)
    place = {"project_id": project_id, "network": network, "address": address}
    values = {**place, "agent_id": agent.id, "address_text": address_to_text(address), "max_wallets": MAX_WALLETS}
    async with writing(engine) as connection:
        row = (await connection.execute(text(query("put_wallet")), values)).one_or_none()
        if row is None:
            owner = (await connection.execute(text(query("wallet_owner")), place)).scalar_one_or_none()
            raise _refusal(entry, owner)
        await _put_thresholds(connection, row.id, amounts)
    kept = WalletEntry(agent=entry.agent, address=entry.address, network=network, thresholds=entry.thresholds)
    return bool(row.created), kept


async def _by_asset(
    directory: Directory, project_id: int, network: str, thresholds: Mapping[str, int]
) -> dict[int, int]:
    """Amounts by asset id; a mint that nobody knows is kept, unregistered. Raises InvalidValue."""
    assets = await directory.assets(project_id, {(network, name) for name in thresholds})
    amounts = {}
    for name, amount in thresholds.items():
        asset_id = assets.get((network, name))
        if asset_id is None:
            raise InvalidValue(f"thresholds: {name[:60]!r} is neither a symbol known on {network} nor a mint with room")
        amounts[asset_id] = amount
    return amounts


async def _put_thresholds(connection: AsyncConnection, wallet_id: int, amounts: Mapping[int, int]) -> None:
    values = {"wallet_id": wallet_id, "asset_ids": sorted(amounts)}
    await connection.execute(text(query("drop_wallet_thresholds")), values)
    values["amounts"] = [amounts[asset_id] for asset_id in sorted(amounts)]
    await connection.execute(text(query("put_wallet_thresholds")), values)


def _refusal(entry: WalletEntry, owner: str | None) -> InvalidValue:
    if owner is None:
        return InvalidValue(f"the project has {MAX_WALLETS} registered wallets already; use another project")
    return WalletTaken(f"{entry.address} is registered to the agent {owner!r}; an address belongs to one agent")
