"""Names that a caller filters by → internal ids, within one project; a name that is not there says which are."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.addresses import address_to_bytes
from store.errors import InvalidValue, NotFound
from store.named_sql import query

MAX_NAMED = 20
"""Most names that a message lists."""


async def agent_id(connection: AsyncConnection, project_id: int, name: str) -> int:
    """One agent by name. Raises NotFound: the project's agents."""
    values = {"project_id": project_id, "name": name}
    found: int | None = (await connection.execute(text(query("read_agent_id")), values)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"no agent {name[:100]!r}; {await _those(connection, 'read_agent_names', project_id)}")
    return found


async def asset_ids(connection: AsyncConnection, project_id: int, name: str) -> list[int]:
    """Assets by symbol or mint, on every network. Raises InvalidValue: the registered ones."""
    values = {"project_id": project_id, "symbol": name, "mint": _mint(name)}
    found = (await connection.execute(text(query("read_asset_ids")), values)).scalars().all()
    if not found:
        raise InvalidValue(f"no asset {name[:100]!r}; {await _those(connection, 'read_asset_symbols', project_id)}")
    return list(found)


async def wallet_ids(connection: AsyncConnection, project_id: int, address: str) -> list[int]:
    """Wallets by address, on every network. Raises NotFound."""
    values = {"project_id": project_id, "address": address}
    found = (await connection.execute(text(query("read_wallet_ids")), values)).scalars().all()
    if not found:
        raise NotFound(f"no wallet {address[:100]!r}; GET /v1/agents/{{name}} lists an agent's wallets")
    return list(found)


def _mint(name: str) -> bytes | None:
    try:
        return address_to_bytes("solana:", name)
    except InvalidValue:
        return None


async def _those(connection: AsyncConnection, statement: str, project_id: int) -> str:
    values = {"project_id": project_id, "limit": MAX_NAMED + 1}
    names = (await connection.execute(text(query(statement)), values)).scalars().all()
    if not names:
        return "there are none"
    return "there are " + ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
