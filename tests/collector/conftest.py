from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from solders.keypair import Keypair

from collector.endpoints import EndpointPool, RestPolicy
from collector.metrics import SampleMetrics
from collector.rpc import SolanaRpc
from collector.sources.balances import BalanceSource
from store.engine import create_engine
from store.logs import QUIET
from store.writer import FactWriter
from tests.collector.chain import CASH, USDC, Chain, start_sandbox
from tests.collector.seeds import seed


@pytest.fixture(scope="session")
def chain():
    """One sandbox for the session; tests read it, and pay only between wallets of their own."""
    process, url = start_sandbox()
    chain = Chain(url)
    chain.pay(USDC, 1_234_567, payer=chain.scout, to=chain.seller.pubkey())
    chain.pay(CASH, 7_654_321, payer=chain.scout, to=chain.seller.pubkey())
    yield chain
    process.communicate(timeout=30)


@pytest.fixture(scope="session")
def funded(chain):
    """A wallet with lamports and no token accounts."""
    wallet = Keypair().pubkey()
    chain.airdrop(wallet, 1_500_000_000)
    return wallet


@pytest.fixture
async def engine(database_url, deadlines):
    engine = create_engine(database_url, deadlines, pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def world(engine):
    """A project with one agent."""
    return await seed(engine)


@pytest.fixture
def root_logging():
    """Puts back what `store.logs.configure` changes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in QUIET}
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, least in quiet.items():
        logging.getLogger(name).setLevel(least)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
async def source(engine, settings, deadlines, registry):
    """A source on some endpoints; settings and deadlines by keyword. The first has `registry`."""
    opened = []

    def make(*urls, engine=engine, rpc=3.0, source_run=20.0, **changes):
        mine = replace(deadlines, rpc=rpc, source_run=source_run)
        own = registry if not opened else CollectorRegistry()
        opened.append(SolanaRpc(EndpointPool(urls, RestPolicy(base=0.01)), settings.network, mine, own))
        metrics = SampleMetrics(own, time.time)
        writer = FactWriter(engine, mine)
        changed = replace(settings, **changes)
        return BalanceSource(engine, opened[-1], writer, changed, deadlines=mine, metrics=metrics)

    yield make
    for rpc in opened:
        await rpc.close()
