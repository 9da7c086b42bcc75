from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from store import tables
from store.engine import create_engine
from store.errors import DatabaseError
from store.sampling import SampledWallet, sampled_assets, sampled_wallets
from store.settings import SOLANA_MAINNET
from tests.collector.chain import CASH, TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID, USDC
from tests.collector.seeds import seed

DEVNET = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def address(number):
    return bytes([number]) * 32


async def test_registered_wallets_in_use_are_sampled(world, engine):
    first = await world.wallet(address(1))
    second = await world.wallet(address(2))
    await world.wallet(address(3), registered=False)
    await world.wallet(address(4), archived_at=NOW)
    await world.wallet(address(5), network=DEVNET)
    idle = await world.add(
        tables.agents, project_id=world.project_id, name="idle", network=SOLANA_MAINNET, archived_at=NOW
    )
    await world.wallet(address(6), agent_id=idle)
    await world.wallet(address(7), agent_id=None, registered=False)

    wallets, total = await sampled_wallets(engine, SOLANA_MAINNET, 10)
    assert [wallet.wallet_id for wallet in wallets] == [first, second]
    assert total == 2
    assert wallets[0] == SampledWallet(
        wallet_id=first, project_id=world.project_id, agent_id=world.agent_id, address=address(1)
    )


async def test_an_archived_project_is_not_sampled(world, engine):
    await world.wallet(address(1))
    other = await seed(engine, "other")
    await other.wallet(address(1))
    async with engine.begin() as connection:
        await connection.execute(
            update(tables.projects).where(tables.projects.c.id == other.project_id).values(archived_at=NOW)
        )
    wallets, _ = await sampled_wallets(engine, SOLANA_MAINNET, 10)
    assert [wallet.project_id for wallet in wallets] == [world.project_id]


async def test_more_wallets_than_the_limit_are_counted(world, engine):
    for number in range(3):
        await world.wallet(address(number))
    for limit, taken in [(0, 0), (2, 2), (3, 3), (4, 3)]:
        wallets, total = await sampled_wallets(engine, SOLANA_MAINNET, limit)
        assert (len(wallets), total) == (taken, 3)


async def test_the_assets_that_everyone_has(world, engine):
    await world.asset("OWN", address(1), TOKEN_PROGRAM_ID, project_id=world.project_id)
    await world.asset("NAMED", address(2), None, registered=False)
    await world.asset("GONE", address(3), TOKEN_PROGRAM_ID, archived_at=NOW)
    found = {asset.symbol: asset for asset in await sampled_assets(engine, SOLANA_MAINNET)}
    assert set(found) == {"SOL", "USDC", "CASH"}
    assert (found["SOL"].mint, found["SOL"].decimals, found["SOL"].token_program) == (None, 9, None)
    assert (found["USDC"].mint, found["USDC"].token_program) == (bytes(USDC), bytes(TOKEN_PROGRAM_ID))
    assert (found["CASH"].mint, found["CASH"].token_program) == (bytes(CASH), bytes(TOKEN_2022_PROGRAM_ID))


async def test_another_network_has_its_own_assets(engine):
    assert {asset.symbol for asset in await sampled_assets(engine, DEVNET)} == {"SOL", "USDC"}


async def test_a_database_that_is_away_is_ours_to_tell(deadlines):
    engine = create_engine("postgresql://nobody@127.0.0.1:9/none", deadlines)
    with pytest.raises(DatabaseError):
        await sampled_wallets(engine, SOLANA_MAINNET, 1)
    await engine.dispose()
