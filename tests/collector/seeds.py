"""Rows that the collector reads, and what it wrote."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from store import tables
from store.settings import SOLANA_MAINNET


@dataclass
class World:
    engine: AsyncEngine
    project_id: int
    agent_id: int

    async def add(self, table, **values):
        """Insert a row; its id."""
        async with self.engine.begin() as connection:
            return (await connection.execute(insert(table).values(**values).returning(table.c.id))).scalar_one()

    async def wallet(self, address, *, network=SOLANA_MAINNET, registered=True, **more):
        address = bytes(address)
        values = {"project_id": self.project_id, "agent_id": self.agent_id} | more
        text = {"address": address, "address_text": address.hex()}
        return await self.add(tables.wallets, network=network, registered=registered, **text, **values)

    async def asset(self, symbol, mint, program, *, decimals=6, **more):
        values = {"network": SOLANA_MAINNET, "registered": True} | more
        program = None if program is None else bytes(program)
        return await self.add(
            tables.assets, symbol=symbol, mint=bytes(mint), decimals=decimals, token_program=program, **values
        )

    async def rows(self, statement):
        async with self.engine.connect() as connection:
            return (await connection.execute(statement)).all()

    async def samples(self):
        """{(wallet_id, symbol, ts): row}"""
        samples = tables.balance_samples
        statement = select(samples, tables.assets.c.symbol).join(
            tables.assets, tables.assets.c.id == samples.c.asset_id
        )
        return {(row.wallet_id, row.symbol, row.ts): row for row in await self.rows(statement)}


async def seed(engine, name="collected") -> World:
    world = World(engine, 0, 0)
    world.project_id = await world.add(tables.projects, name=name)
    world.agent_id = await world.add(tables.agents, project_id=world.project_id, name="scout", network=SOLANA_MAINNET)
    return world


async def eventually(check, seconds=20.0):
    """What `check()` gives as soon as it is true; polls, with a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)
    return found


def count(registry, name, **labels):
    """A sample of a registry, 0 where there is none yet."""
    return registry.get_sample_value(name, labels) or 0.0
