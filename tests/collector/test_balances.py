from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from solders.keypair import Keypair
from sqlalchemy import select, update

from collector.rpc_errors import IncompleteRun
from store import tables
from tests.collector.chain import CASH, PROGRAMS, USDC
from tests.collector.node import Node, Reply, names, through
from tests.collector.seeds import count, seed

TICK = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def test_samples_are_what_the_chain_answers(source, world, chain, funded):
    owners = [chain.scout.pubkey(), chain.seller.pubkey(), funded]
    wallets = [await world.wallet(owner) for owner in owners]
    before = chain.call("getSlot", {"commitment": "confirmed"})
    await source(chain.url).run(TICK)
    after = chain.call("getSlot", {"commitment": "confirmed"})

    samples = await world.samples()
    assert len(samples) == 9
    for wallet, owner in zip(wallets, owners, strict=True):
        expected = {"SOL": chain.lamports(owner), "USDC": chain.tokens(owner, USDC), "CASH": chain.tokens(owner, CASH)}
        found = {symbol: samples[wallet, symbol, TICK] for symbol in expected}
        assert {symbol: row.amount for symbol, row in found.items()} == {s: a or 0 for s, a in expected.items()}
        assert {symbol: row.reason for symbol, row in found.items()} == {
            symbol: "no_account" if amount is None else None for symbol, amount in expected.items()
        }
        for row in found.values():
            assert before <= row.slot <= after
            assert (row.project_id, row.agent_id) == (world.project_id, world.agent_id)
            assert (row.commitment, row.origin) == ("confirmed", "collector")
    assert samples[wallets[1], "CASH", TICK].amount == 7_654_321
    assert samples[wallets[0], "USDC", TICK].amount == 50_000_000 - 1_234_567
    assert samples[wallets[2], "SOL", TICK].amount == 1_500_000_000


async def test_a_wallet_that_the_chain_does_not_know_has_nothing(source, world, chain):
    wallet = await world.wallet(Keypair().pubkey())
    await source(chain.url).run(TICK)
    rows = await world.samples()
    assert {key[:2] for key in rows} == {(wallet, "SOL"), (wallet, "USDC"), (wallet, "CASH")}
    assert {(row.amount, row.reason) for row in rows.values()} == {(0, "no_account")}


async def test_a_tick_that_runs_again_writes_nothing_new(source, world, chain, registry):
    await world.wallet(chain.scout.pubkey())
    balances = source(chain.url)
    await balances.run(TICK)
    first = await world.samples()
    await balances.run(TICK)
    assert await world.samples() == first
    assert count(registry, "tollwatch_samples_total", result="new") == 3
    assert count(registry, "tollwatch_samples_total", result="known") == 3
    await balances.run(TICK + timedelta(seconds=10))
    assert len(await world.samples()) == 6


async def test_two_projects_that_watch_one_wallet(source, world, chain, engine):
    other = await seed(engine, "other")
    async with Node(through(chain.url, lambda _: None)) as node:
        mine = await world.wallet(chain.scout.pubkey())
        theirs = await other.wallet(chain.scout.pubkey())
        await source(node.url()).run(TICK)
        read = [call["params"][0] for call in node.calls if call["method"] == "getMultipleAccounts"]
    samples = await world.samples()
    assert {wallet for wallet, *_ in samples} == {mine, theirs}
    assert len(samples) == 6
    assert [len(addresses) for addresses in read] == [2, 3]


async def test_a_wrong_token_program_is_not_sampled(source, world, chain, engine, registry):
    """Derived with it, the account would be another one, and the balance a silent zero."""
    await world.wallet(chain.scout.pubkey())
    async with engine.begin() as connection:
        cash = tables.assets.c.mint == bytes(CASH)
        await connection.execute(update(tables.assets).where(cash).values(token_program=bytes(PROGRAMS[USDC])))
    await source(chain.url).run(TICK)
    assert {symbol for _, symbol, _ in await world.samples()} == {"SOL", "USDC"}
    assert count(registry, "tollwatch_sample_asset_refused", asset="CASH") == 1


async def test_wallets_above_the_limit_are_counted_and_left(source, world, chain, registry, caplog):
    for number in range(3):
        await world.wallet(bytes([number]) * 32)
    balances = source(chain.url, max_wallets=2)
    await balances.run(TICK)
    await balances.run(TICK + timedelta(seconds=10))
    assert {wallet for wallet, *_ in await world.samples()} == {
        row.id for row in await world.rows(select(tables.wallets.c.id).order_by(tables.wallets.c.id).limit(2))
    }
    assert count(registry, "tollwatch_sample_wallets_skipped") == 1
    assert count(registry, "tollwatch_sample_wallets") == 2
    assert [item.message for item in caplog.records if item.levelno == logging.WARNING] == ["wallets_skipped"]


async def test_a_batch_that_fails_leaves_no_sample_and_the_others_are_written(source, world, chain, registry, caplog):
    unlucky = Keypair().pubkey()
    for number in range(70):
        await world.wallet(unlucky if number == 50 else bytes([number]) * 32)
    await world.wallet(chain.scout.pubkey())

    async with Node(through(chain.url, lambda call: Reply(b"", 503) if names(call, unlucky) else None)) as node:
        with pytest.raises(IncompleteRun, match="1 of 3 batches failed"):
            await source(node.url()).run(TICK)
    # 71 wallets in 3 assets: 213 accounts in batches of 100, 100 and 13.
    samples = await world.samples()
    assert len(samples) == 113
    assert max(row.amount for row in samples.values()) == chain.lamports(chain.scout.pubkey())
    assert count(registry, "tollwatch_sample_batches_total", outcome="ok") == 2
    assert count(registry, "tollwatch_sample_batches_total", outcome="failed") == 1
    (record,) = [item for item in caplog.records if item.message == "sample_failed"]
    assert record.tollwatch_fields["failed"] == 1
    assert "HTTP 503" in record.tollwatch_fields["error"]
