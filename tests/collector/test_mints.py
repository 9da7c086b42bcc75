from __future__ import annotations

import base64
import time
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey

from collector.accounts import TOKEN_PROGRAMS
from collector.endpoints import EndpointPool, RestPolicy
from collector.metrics import SampleMetrics
from collector.rpc import SolanaRpc
from collector.rpc_errors import NoEndpoint
from collector.sources.mints import MintCheck
from store.deadlines import Deadlines
from store.sampling import SampledAsset
from store.settings import SOLANA_MAINNET
from tests.collector.chain import CASH, PROGRAMS, USDC
from tests.collector.node import Node, Reply, at_slot
from tests.collector.seeds import count

SOL = SampledAsset(id=1, symbol="SOL", mint=None, decimals=9, token_program=None)


def asset(mint, *, symbol="X", program=None, decimals=6):
    program = PROGRAMS[mint] if program is None else program
    return SampledAsset(id=2, symbol=symbol, mint=bytes(mint), decimals=decimals, token_program=bytes(program))


@pytest.fixture
async def check(registry):
    """A MintCheck on an endpoint."""
    opened = []

    def make(url):
        deadlines = replace(Deadlines(), rpc=5.0)
        opened.append(SolanaRpc(EndpointPool([url], RestPolicy(base=0.01)), SOLANA_MAINNET, deadlines, registry))
        return MintCheck(opened[-1], SampleMetrics(registry, time.time))

    yield make
    for rpc in opened:
        await rpc.close()


def refused(registry, symbol="X"):
    return count(registry, "tollwatch_sample_asset_refused", asset=symbol)


async def test_mints_as_they_are_registered(check, chain, registry):
    assets = [SOL, asset(USDC, symbol="USDC"), asset(CASH, symbol="CASH"), asset(CASH, decimals=None)]
    assert await check(chain.url).usable(assets) == assets
    assert refused(registry, "CASH") == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (asset(CASH, program=PROGRAMS[USDC]), "another token program"),
        (asset(USDC, program=PROGRAMS[CASH]), "another token program"),
        (asset(USDC, decimals=9), "6 decimals, 9 are registered"),
        (asset(USDC, program=bytes(32)), "no token program that we know"),
        (asset(Pubkey(bytes([9]) * 32), program=PROGRAMS[USDC]), "no such mint"),
        (replace(asset(USDC), token_program=None), "no token program that we know"),
        (replace(asset(USDC), mint=b"short"), "no such mint"),
    ],
)
async def test_a_mint_that_is_not_as_registered_is_not_sampled(check, chain, registry, caplog, wrong, reason):
    checks = check(chain.url)
    good = asset(USDC, symbol="USDC")
    for _ in range(2):
        assert await checks.usable([SOL, wrong, good]) == [SOL, good]
    assert refused(registry) == 1
    (record,) = [item for item in caplog.records if item.message == "asset_refused"]
    assert reason in record.tollwatch_fields["reason"]
    assert record.levelname == "ERROR"


async def test_a_token_account_is_no_mint(check, chain):
    account = chain.account(chain.scout.pubkey(), CASH)
    assert await check(chain.url).usable([asset(account, program=PROGRAMS[CASH])]) == []


async def test_a_mint_is_asked_for_once_and_a_refused_one_again(check, registry):
    data = bytes(44) + bytes([6, 1]) + bytes(36)
    owners = [TOKEN_PROGRAMS[1], TOKEN_PROGRAMS[0]]

    def answer(call):
        owner = str(Pubkey(owners.pop(0)))
        return at_slot(call, [{"lamports": 1, "owner": owner, "data": [base64.b64encode(data).decode(), "base64"]}])

    async with Node(answer) as node:
        checks = check(node.url())
        assert await checks.usable([asset(USDC)]) == []
        assert refused(registry) == 1
        for _ in range(3):
            assert await checks.usable([asset(USDC)]) == [asset(USDC)]
        assert refused(registry) == 0
        assert node.methods.count("getMultipleAccounts") == 2


async def test_nobody_to_ask(check):
    async with Node(lambda _: Reply(b"", 500)) as node:
        checks = check(node.url())
        with pytest.raises(NoEndpoint):
            await checks.usable([asset(USDC)])
        assert await checks.usable([SOL]) == [SOL]
