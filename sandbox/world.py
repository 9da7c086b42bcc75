"""The whole sandbox in one object: chain, facilitator, sellers, agents, and the books about them."""

import asyncio
import contextlib
from dataclasses import dataclass
from socket import socket
from types import TracebackType
from typing import Self

import httpx
from x402.http import FacilitatorConfig, HTTPFacilitatorClient

from sandbox.agents import Agent
from sandbox.books import account_for
from sandbox.chain import NETWORK, Chain
from sandbox.chain_app import chain_app
from sandbox.chain_client import ChainClient
from sandbox.clock import MAINNET_SLOT_MS, SlotClock, UnixMs, WallClock, rfc3339
from sandbox.facilitator import POLL_S, SETTLE_TIMEOUT_S, Facilitator, facilitator_app
from sandbox.genesis import Wallets, write_genesis
from sandbox.http_client import http_client
from sandbox.knowledge import knowledge_catalogue
from sandbox.market import market_catalogue
from sandbox.paywall import Challenges
from sandbox.places import KNOWLEDGE, MARKET_DATA, Places, Setting
from sandbox.profiles import PROFILES
from sandbox.rpc import Rpc
from sandbox.seller import Catalogue, Seller, seller_app
from sandbox.serve import HttpService, listen
from sandbox.stories import STORIES, Healthy

FACILITATOR_PORT, MARKET_PORT, KNOWLEDGE_PORT = 1, 2, 3
"""Counted from the chain's port."""

HEALTHY = "healthy"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a sandbox can be told.

    `pace` is purchases a second of a healthy agent, and 0 for no agents at all; `speed` is by how much every story is
    sped up. `purchases` ends the healthy story after so many, `cycles` every story after so many cycles; 0 is endless.
    `story` names the stories; none means all of them, or only the healthy one when it is told how much to buy.
    """

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
    story: tuple[str, ...] = ()
    speed: float = 1.0
    cycles: int = 0

    @property
    def stories(self) -> tuple[str, ...]:
        """The names of the stories that are told."""
        return self.story or ((HEALTHY,) if self.purchases else tuple(STORIES))


class World:
    """Everything, running between `async with` and its end. CannotListen when a port is taken.

    Every port is bound before anything runs, so a world that cannot be complete does not begin.
    """

    def __init__(self, options: Options, unix_ms: UnixMs | None = None) -> None:
        self.options = options
        self._unix_ms = unix_ms or WallClock()
        self.wallets = Wallets.of(options.seed)
        self.places = Places(
            chain=self._url(0),
            facilitator=self._url(FACILITATOR_PORT),
            market=self._url(MARKET_PORT),
            knowledge=self._url(KNOWLEDGE_PORT),
            tollwatch=options.tollwatch_url,
            tollwatch_key=options.tollwatch_key,
        )
        self._poll_s = min(POLL_S, options.slot_ms / 4000)
        self.chain = Chain(
            SlotClock(self._unix_ms, options.slot_ms),
            confirmed_lag=options.confirmed_lag,
            finalized_lag=options.finalized_lag,
        )
        write_genesis(self.chain, self.wallets, options.seed)
        self.agents: list[Agent] = []
        self._lives: list[asyncio.Task[None]] = []
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
        sockets = [listen(self.options.host, self.options.port + offset) for offset in range(KNOWLEDGE_PORT + 1)]
        for bound in sockets:
            stack.callback(bound.close)
        http = await stack.enter_async_context(http_client(SETTLE_TIMEOUT_S + 5))
        facilitator = Facilitator(
            self.wallets.facilitator,
            ChainClient(self.places.chain, http),
            poll_s=self._poll_s,
        )
        services = [
            HttpService(chain_app(Rpc(self.chain), self.books), sockets[0]),
            HttpService(facilitator_app(facilitator), sockets[FACILITATOR_PORT]),
            *self._shops(facilitator, http, sockets),
        ]
        stack.push_async_callback(_stop_all, services)
        for service in services:
            await service.start()
        stack.push_async_callback(self._stop_agents)
        self._start_agents()

    def _shops(self, facilitator: Facilitator, http: httpx.AsyncClient, sockets: list[socket]) -> list[HttpService]:
        client = HTTPFacilitatorClient(FacilitatorConfig(url=self.places.facilitator, http_client=http))
        seed = self.options.seed
        market = self._seller(MARKET_DATA, market_catalogue(seed), client, facilitator.address)
        knowledge = self._seller(KNOWLEDGE, knowledge_catalogue(seed), client, facilitator.address)
        return [
            HttpService(seller_app(market), sockets[MARKET_PORT]),
            HttpService(seller_app(knowledge), sockets[KNOWLEDGE_PORT]),
        ]

    def _seller(self, name: str, catalogue: Catalogue, client: HTTPFacilitatorClient, fee_payer: str) -> Seller:
        return Seller(
            self.places.service(name).url,
            catalogue,
            challenges=Challenges(self.wallets.sellers[name].pubkey(), fee_payer, self._unix_ms),
            facilitator=client,
            unix_ms=self._unix_ms,
        )

    def _start_agents(self) -> None:
        options = self.options
        setting = Setting(
            places=self.places,
            treasury=self.wallets.treasury,
            unix_ms=self._unix_ms,
            seed=options.seed,
            speed=options.speed,
            poll_s=self._poll_s,
        )
        for profile in PROFILES:
            if profile.story in options.stories:
                agent = Agent(profile, self.wallets.agents[profile.name], setting)
                self.agents.append(agent)
                if options.pace > 0:
                    self._lives.append(self._begin(agent))

    def _begin(self, agent: Agent) -> asyncio.Task[None]:
        options = self.options
        if agent.profile.story != HEALTHY:
            return agent.begin(STORIES[agent.profile.story](agent), options.cycles)
        if options.purchases:
            return agent.begin(Healthy(agent, options.pace, options.purchases), 1)
        return agent.begin(Healthy(agent, options.pace), options.cycles)

    async def _stop_agents(self) -> None:
        await asyncio.gather(*(agent.stop() for agent in self.agents))

    async def stories_told(self) -> None:
        """Wait until every agent has lived through what it was told to."""
        await asyncio.gather(*self._lives)

    def books(self) -> dict[str, object]:
        """What the sandbox knows to be true of this run; the document of GET /books."""
        clock, places = self.chain.clock, self.places
        return {
            "network": NETWORK,
            "seed": self.options.seed,
            "slot": self.chain.slot(),
            "start_slot": clock.start_slot,
            "start_time": rfc3339(clock.start_ms),
            "seller": str(self.wallets.seller.pubkey()),
            "sellers": {name: str(seller.pubkey()) for name, seller in self.wallets.sellers.items()},
            "treasury": str(self.wallets.treasury.pubkey()),
            "fee_payer": str(self.wallets.facilitator.pubkey()),
            "services": {
                "facilitator": places.facilitator,
                "market": places.market,
                "knowledge": places.knowledge,
            },
            "agents": [account_for(agent, self.chain) for agent in self.agents],
        }


async def _stop_all(services: list[HttpService]) -> None:
    await asyncio.gather(*(service.stop() for service in services))
