"""The honest agents: they buy market data for ever, pay what is asked, and tell the truth about it."""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from solders.keypair import Keypair
from x402 import x402Client
from x402.http.clients.httpx import x402_httpx_transport
from x402.schemas import PaymentRequirements, PaymentRequirementsV1

from sandbox.chain import NETWORK
from sandbox.chain_client import CALL_TIMEOUT_S, ChainClient
from sandbox.clock import UnixMs
from sandbox.events import EventIds
from sandbox.exact_svm import ExactSvmScheme
from sandbox.http_client import http_client, http_transport
from sandbox.market import PRODUCTS
from sandbox.observe import ObservedTransport
from sandbox.prices import START_TICKS
from sandbox.purchase import Buyer, Desk, Tally, buy
from sandbox.reporter import Reporter
from sandbox.tokens import ASSETS, CASH, USDC, Asset

MAX_RETRIES = 3
BREAKER_TIMEOUT_S = 300
LOW_BALANCE_TOKENS = "0.01"
WALLET_THRESHOLD_ATOMIC = "5000000"
MAX_IN_FLIGHT = 16
"""Purchases of one agent under way at once: a settlement takes a slot or two, and the pace may be faster."""

ANSWER_TIMEOUT_S = 30.0
"""Longer than the facilitator waits for a confirmation, so that its answer still finds somebody."""

STOP_GRACE_S = 2.0

log = logging.getLogger(__name__)

Terms = PaymentRequirements | PaymentRequirementsV1


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An agent by name, and the asset it pays in."""

    name: str
    asset: Asset


PROFILES = (Profile(name="scout", asset=USDC), Profile(name="oracle", asset=CASH))


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where an agent turns to: URLs, its key to Tollwatch, and how long it waits for a seller's answer."""

    chain: str
    market: str
    facilitator: str
    tollwatch: str
    tollwatch_key: str
    answer_timeout_s: float = ANSWER_TIMEOUT_S


def shopping(seed: int, name: str) -> Iterator[tuple[str, float]]:
    """What an agent buys, for ever: (path of the resource, its share of the mean pause before the next)."""
    dice = random.Random(f"{seed}/{name}/shopping")  # noqa: S311 - repeatable on purpose
    products, symbols = list(PRODUCTS), list(START_TICKS)
    while True:
        product = dice.choices(products, weights=[3, 1])[0]
        yield f"/v1/{product}/{dice.choice(symbols)}", dice.uniform(0.5, 1.5)


def registrations(profile: Profile, address: str, market: str) -> dict[str, object]:
    """What Tollwatch is told before the first event: paths under its API, and the bodies to PUT there."""
    agent = f"/v1/agents/{profile.name}"
    return {
        agent: {
            "name": profile.name,
            "autonomy_phase": "full",
            "network": NETWORK,
            "api_endpoints": [{"name": "market_data", "url": market, "priority": 1}],
            "priority_rules": {"funds_threshold": WALLET_THRESHOLD_ATOMIC, "freshness_window_s": 60},
            "max_retries": MAX_RETRIES,
            "low_balance_threshold": LOW_BALANCE_TOKENS,
            "breaker_timeout_s": BREAKER_TIMEOUT_S,
            "active": True,
        },
        f"{agent}/wallets/{address}": {
            "network": NETWORK,
            "thresholds": {asset.symbol: WALLET_THRESHOLD_ATOMIC for asset in ASSETS.values()},
        },
    }


class Agent:
    """One agent with its wallet. `run` buys until the limit or until `stop`."""

    def __init__(self, profile: Profile, wallet: Keypair, places: Places, *, seed: int, unix_ms: UnixMs) -> None:
        self.profile = profile
        self.address = str(wallet.pubkey())
        self.tally = Tally()
        known = registrations(profile, self.address, places.market)
        self.reporter = Reporter(places.tollwatch, places.tollwatch_key, known)
        self._market = places.market
        self._plan = shopping(seed, profile.name)
        self._rpc_http = http_client(CALL_TIMEOUT_S)
        self._http = self._paying_client(wallet, ChainClient(places.chain, self._rpc_http), places.answer_timeout_s)
        dice = random.Random(f"{seed}/{profile.name}/retries")  # noqa: S311
        self._desk = Desk(
            buyer=Buyer(
                agent=profile.name,
                wallet=self.address,
                service=places.market,
                facilitator=places.facilitator,
                max_retries=MAX_RETRIES,
            ),
            http=self._http,
            ids=EventIds(unix_ms),
            report=self.reporter.put,
            tally=self.tally,
            jitter=lambda: dice.uniform(0.5, 1.5),
        )
        self._stopping = asyncio.Event()
        self._in_hand: set[asyncio.Task[None]] = set()

    async def run(self, pace: float, limit: int) -> None:
        """Buy at `pace` a second on average, `limit` times (0: until stopped), and wait for the last to end."""
        self.reporter.start()
        slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        for number, (path, share) in enumerate(self._plan, start=1):
            async with slots:
                pass  # wait for a place, which the purchase then takes itself
            if self._stopping.is_set():
                break
            task = asyncio.create_task(self._buy(path, slots))
            self._in_hand.add(task)
            task.add_done_callback(self._in_hand.discard)
            if number == limit or await self._pause(share / pace):
                break
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def stop(self) -> None:
        """Start nothing new, wait a moment for the purchases in hand, abandon the rest, flush the report."""
        self._stopping.set()
        if self._in_hand:
            _, late = await asyncio.wait(self._in_hand, timeout=STOP_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.reporter.close()
        await self._http.aclose()
        await self._rpc_http.aclose()

    async def _buy(self, path: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                await buy(self._desk, self._market + path)
            except Exception:
                log.exception("purchase_crashed agent=%s", self.profile.name)
                self.tally.failed += 1

    async def _pause(self, seconds: float) -> bool:
        """Wait; True when the agent is to stop."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _paying_client(self, wallet: Keypair, chain: ChainClient, timeout_s: float) -> httpx.AsyncClient:
        """The SDK's transport around one that watches; it pays only in the agent's asset."""
        scheme = ExactSvmScheme(wallet, chain)
        mint = str(self.profile.asset.mint)

        def own_asset(version: int, offers: list[Terms]) -> list[Terms]:
            del version
            return [terms for terms in offers if terms.asset == mint]

        client = x402Client().register("solana:*", scheme).register_policy(own_asset)
        client.on_before_payment_creation(scheme.prepare)
        transport = x402_httpx_transport(client, ObservedTransport(http_transport()))
        return httpx.AsyncClient(transport=transport, timeout=timeout_s, trust_env=False)
