"""What the collector samples: wallets and assets. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from store.engine import reading
from store.named_sql import query


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledWallet:
    """A wallet to sample; `address` is raw bytes (32 on Solana)."""

    wallet_id: int
    project_id: int
    agent_id: int
    address: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledAsset:
    """An asset to sample. `mint` None: the network's own coin. Mint and token program are raw bytes."""

    id: int
    symbol: str
    mint: bytes | None
    decimals: int | None
    token_program: bytes | None


async def sampled_wallets(engine: AsyncEngine, network: str, limit: int) -> tuple[list[SampledWallet], int]:
    """At most `limit` wallets of a network, oldest first, and how many there are in all. Raises DatabaseError."""
    values = {"network": network, "limit": limit}
    async with reading(engine) as connection:
        rows = (await connection.execute(text(query("sampled_wallets")), values)).all()
        total = len(rows)
        if total >= limit:
            counted = await connection.execute(text(query("count_sampled_wallets")), {"network": network})
            total = max(total, counted.scalar_one())
    wallets = [
        SampledWallet(
            wallet_id=row.wallet_id, project_id=row.project_id, agent_id=row.agent_id, address=bytes(row.address)
        )
        for row in rows
    ]
    return wallets, total


async def sampled_assets(engine: AsyncEngine, network: str) -> list[SampledAsset]:
    """The assets that everyone's wallets of a network are sampled in. Raises DatabaseError."""
    async with reading(engine) as connection:
        rows = (await connection.execute(text(query("sampled_assets")), {"network": network})).all()
    return [
        SampledAsset(
            id=row.id, symbol=row.symbol, mint=row.mint, decimals=row.decimals, token_program=row.token_program
        )
        for row in rows
    ]
