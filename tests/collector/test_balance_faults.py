"""The balance source when nodes, wallets or the database are not as they should be."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest
from solders.pubkey import Pubkey
from sqlalchemy import update

from collector.rpc_errors import IncompleteRun, NoEndpoint
from collector.sources.targets import token_address
from store import tables
from store.engine import create_engine
from store.errors import DatabaseUnavailable
from tests.collector.chain import CASH, PROGRAMS, USDC
from tests.collector.node import Node, Reply, at_slot, names, through
from tests.collector.seeds import count

TICK = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEVNET_GENESIS = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"


@pytest.fixture
def database_url(plain_server):
    """Faults of nodes are the same on every edition."""
    name = plain_server.clone()
    yield plain_server.url(name)
    plain_server.drop(name)


async def test_an_endpoint_of_another_chain_gives_no_sample(source, world, chain, registry):
    await world.wallet(chain.scout.pubkey())
    async with Node(through(chain.url, lambda _: None), genesis=DEVNET_GENESIS) as other:
        with pytest.raises(NoEndpoint, match="it serves"):
            await source(other.url()).run(TICK)
        assert await world.samples() == {}
        await source(other.url(), chain.url).run(TICK)
        assert other.methods == ["getGenesisHash"] * 2
    assert len(await world.samples()) == 3
    labels = {"endpoint": other.label, "method": "getGenesisHash", "outcome": "wrong_chain"}
    assert count(registry, "tollwatch_rpc_requests_total", **labels) == 1


async def test_a_batch_that_one_node_cannot_read_is_read_from_another(source, world, chain):
    await world.wallet(chain.scout.pubkey())
    wallet = chain.scout.pubkey()
    async with Node(through(chain.url, lambda call: Reply(b"", 503) if names(call, wallet) else None)) as node:
        await source(node.url(), chain.url).run(TICK)
    assert len(await world.samples()) == 3


def lie_about(address, account):
    """A node's answer with one account exchanged."""

    def spoil(call):
        if not names(call, address):
            return None
        return at_slot(call, [account if shown == str(address) else None for shown in call["params"][0]])

    return spoil


def token_account(program, mint, owner, amount):
    data = bytes(mint) + bytes(owner) + amount.to_bytes(8, "little")
    return {"lamports": 1, "owner": str(program), "data": [base64.b64encode(data).decode(), "base64"]}


OTHER = Pubkey(bytes([3]) * 32)
WALLET = Pubkey(bytes([7]) * 32)
USDC_ACCOUNT = Pubkey(token_address(bytes(WALLET), bytes(USDC), bytes(PROGRAMS[USDC])))
CANNOT_BE = {
    "another program": (token_account(PROGRAMS[CASH], USDC, WALLET, 5), "malformed"),
    "another mint": (token_account(PROGRAMS[USDC], CASH, WALLET, 5), "malformed"),
    "another owner": (token_account(PROGRAMS[USDC], USDC, OTHER, 5), "malformed"),
    "too short": (token_account(PROGRAMS[USDC], USDC, WALLET, 5) | {"data": ["AAAA", "base64"]}, "malformed"),
    "too much": (token_account(PROGRAMS[USDC], USDC, WALLET, 2**63), "too_large"),
}


@pytest.mark.parametrize("what", CANNOT_BE)
async def test_an_account_that_cannot_be_is_no_sample(source, world, chain, registry, caplog, what):
    account, reason = CANNOT_BE[what]
    await world.wallet(WALLET)
    spoil = lie_about(USDC_ACCOUNT, account)

    async with Node(through(chain.url, spoil)) as node:
        balances = source(node.url())
        await balances.run(TICK)
        await balances.run(TICK)
    assert [item.message for item in caplog.records if item.levelno >= logging.WARNING] == ["sample_refused"]
    assert {symbol for _, symbol, _ in await world.samples()} == {"SOL", "CASH"}
    assert count(registry, "tollwatch_samples_refused_total", reason=reason) == 2


async def test_when_no_answer_can_be_used_the_run_has_failed(source, world, engine, registry):
    await world.wallet(WALLET)
    async with engine.begin() as connection:
        await connection.execute(
            update(tables.assets).where(tables.assets.c.mint.is_not(None)).values(registered=False)
        )

    def answer(call):
        system = {"owner": "11111111111111111111111111111111", "data": ["", "base64"]}
        return at_slot(call, [system | {"lamports": 2**63}])

    async with Node(answer) as node:
        with pytest.raises(IncompleteRun, match="no answer could be used"):
            await source(node.url()).run(TICK)
    assert await world.samples() == {}


async def test_an_impossible_address_spoils_no_batch(source, world, chain, registry):
    await world.wallet(b"short")
    await world.wallet(chain.scout.pubkey())
    await source(chain.url).run(TICK)
    assert len(await world.samples()) == 3
    assert count(registry, "tollwatch_samples_refused_total", reason="bad_address") == 1


async def test_a_node_that_hangs_costs_its_batches_and_not_the_run(source, world, chain):
    for number in range(40):
        await world.wallet(bytes([number]) * 32)
    hanging = Pubkey(bytes([0]) * 32)
    async with Node(through(chain.url, lambda call: Reply(hang=True) if names(call, hanging) else None)) as node:
        started = time.monotonic()
        with pytest.raises(IncompleteRun, match=r"1 of 2 batches failed.*not read within"):
            await source(node.url(), rpc=60.0, source_run=1.5).run(TICK)
        assert time.monotonic() - started < 10
    assert len(await world.samples()) == 20


async def test_the_lag_is_the_age_of_the_newest_written_tick(source, world, chain, registry):
    await world.wallet(chain.scout.pubkey())
    balances = source(chain.url)
    assert count(registry, "tollwatch_sample_lag_seconds") < 10
    now = datetime.now(UTC)
    await balances.run(now + timedelta(seconds=1))
    assert count(registry, "tollwatch_sample_lag_seconds") == 0
    await balances.run(now - timedelta(days=1))
    assert count(registry, "tollwatch_sample_lag_seconds") == pytest.approx(0, abs=30)


async def test_nothing_to_sample_asks_no_node(source, world):
    await source("http://127.0.0.1:9").run(TICK)
    assert await world.samples() == {}


async def test_a_database_that_is_away_fails_the_run(source, chain, deadlines):
    engine = create_engine("postgresql://nobody@127.0.0.1:9/none", deadlines)
    with pytest.raises(DatabaseUnavailable):
        await source(chain.url, engine=engine).run(TICK)
    await engine.dispose()


async def test_at_most_so_many_calls_at_once(source, world, chain):
    for number in range(170):
        await world.wallet(bytes([number]) * 32)
    at_once, most = 0, 0
    real = through(chain.url, lambda _: None)

    async def answer(call):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        reply = await real(call)
        at_once -= 1
        return reply

    async with Node(answer) as node:
        await source(node.url(), sample_concurrency=2).run(TICK)
    assert most == 2
    assert len(await world.samples()) == 510
