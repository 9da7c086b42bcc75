"""The whole sandbox in one object: chain, facilitator, market, agents, and the books about them."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx
from x402.http import FacilitatorConfig, HTTPFacilitatorClient

from sandbox.agents import PROFILES, Agent, Places
from sandbox.chain import NETWORK, Chain
from sandbox.chain_app import chain_app
from sandbox.chain_client import ChainClient
from sandbox.clock import MAINNET_SLOT_MS, SlotClock, UnixMs, WallClock
from sandbox.facilitator import POLL_S, SETTLE_TIMEOUT_S, Facilitator, facilitator_app
from sandbox.genesis import Wallets, write_genesis
from sandbox.http_client import http_client
from sandbox.market import Market, market_app
from sandbox.paywall import Challenges
from sandbox.rpc import Rpc
from sandbox.serve import HttpService, listen

FACILITATOR_PORT, MARKET_PORT = 1, 2
"""Counted from the chain's port; the third is reserved for a second paid API."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a sandbox can be told. `pace` is purchases a second and agent, 0 for none; `purchases` 0 is endless."""

    host: str = "127.0.0.1"
    port: int = 8899
    tollwatch_url: str = "http://127.0.0.1:8402"
    tollwatch_key: str = "tollwatch-dev"
    seed: int = 1
    slot_ms: int = MAINNET_SLOT_MS
    confirmed_lag: int = 1
    finalized_lag: int = 32
    pace: float = 1.0
    purchases: int = 0


class World:
    """Everything, running between `async with` and its end. CannotListen when a port is taken.

    Every port is bound before anything runs, so a world that cannot be complete does not begin.
    """

    def __init__(self, options: Options, unix_ms: UnixMs | None = None) -> None:
        self.options = options
        self._unix_ms = unix_ms or WallClock()
        self.wallets = Wallets.of(options.seed, [profile.name for profile in PROFILES])
        self.places = Places(
            chain=self._url(0),
            facilitator=self._url(FACILITATOR_PORT),
            market=self._url(MARKET_PORT),
            tollwatch=options.tollwatch_url,
            tollwatch_key=options.tollwatch_key,
        )
        self.chain = Chain(
            SlotClock(self._unix_ms, options.slot_ms),
            confirmed_lag=options.confirmed_lag,
            finalized_lag=options.finalized_lag,
        )
        write_genesis(self.chain, self.wallets, options.seed)
        self.agents: list[Agent] = []
        self._shopping: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()

    def _url(self, offset: int) -> str:
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"http://{host}:{self.options.port + offset}"

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        sockets = [listen(self.options.host, self.options.port + offset) for offset in range(MARKET_PORT + 1)]
        for bound in sockets:
            stack.callback(bound.close)
        http = await stack.enter_async_context(http_client(SETTLE_TIMEOUT_S + 5))
        facilitator = Facilitator(
            self.wallets.facilitator,
            ChainClient(self.places.chain, http),
            poll_s=min(POLL_S, self.options.slot_ms / 4000),
        )
        services = [
            HttpService(chain_app(Rpc(self.chain), self.books), sockets[0]),
            HttpService(facilitator_app(facilitator), sockets[FACILITATOR_PORT]),
            HttpService(market_app(self._market(facilitator, http)), sockets[MARKET_PORT]),
        ]
        stack.push_async_callback(_stop_all, services)
        for service in services:
            await service.start()
        stack.push_async_callback(self._stop_agents)
        self._start_agents()

    def _market(self, facilitator: Facilitator, http: httpx.AsyncClient) -> Market:
        challenges = Challenges(self.wallets.seller.pubkey(), facilitator.address, self._unix_ms)
        client = HTTPFacilitatorClient(FacilitatorConfig(url=self.places.facilitator, http_client=http))
        return Market(self.places.market, challenges, client, seed=self.options.seed, unix_ms=self._unix_ms)

    def _start_agents(self) -> None:
        options = self.options
        for profile in PROFILES:
            wallet = self.wallets.agents[profile.name]
            agent = Agent(profile, wallet, self.places, seed=options.seed, unix_ms=self._unix_ms)
            self.agents.append(agent)
            if options.pace > 0:
                self._shopping.append(asyncio.create_task(agent.run(options.pace, options.purchases)))

    async def _stop_agents(self) -> None:
        await asyncio.gather(*(agent.stop() for agent in self.agents))
        await asyncio.gather(*self._shopping)

    async def shopping_done(self) -> None:
        """Wait until every agent has made the purchases it was told to make."""
        await asyncio.gather(*self._shopping)

    def books(self) -> dict[str, object]:
        """What the sandbox knows to be true of this run; the document of GET /books."""
        clock = self.chain.clock
        began = datetime.fromtimestamp(clock.start_ms / 1000, UTC)
        return {
            "network": NETWORK,
            "seed": self.options.seed,
            "slot": self.chain.slot(),
            "start_slot": clock.start_slot,
            "start_time": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "seller": str(self.wallets.seller.pubkey()),
            "fee_payer": str(self.wallets.facilitator.pubkey()),
            "services": {"facilitator": self.places.facilitator, "market": self.places.market},
            "agents": [_account_for(agent) for agent in self.agents],
        }


def _account_for(agent: Agent) -> dict[str, object]:
    tally, reporter = agent.tally, agent.reporter
    return {
        "name": agent.profile.name,
        "wallet": agent.address,
        "asset": agent.profile.asset.symbol,
        "mint": str(agent.profile.asset.mint),
        "purchases": {"started": tally.started, "done": tally.done, "failed": tally.failed},
        "payments": dict(tally.payments),
        "spent": str(tally.spent),
        "reporter": {
            "sent": reporter.counters.sent,
            "accepted": reporter.counters.accepted,
            "duplicates": reporter.counters.duplicates,
            "rejected": dict(reporter.counters.rejected),
            "dropped": reporter.counters.dropped,
            "pending": reporter.pending,
        },
    }


async def _stop_all(services: list[HttpService]) -> None:
    await asyncio.gather(*(service.stop() for service in services))
