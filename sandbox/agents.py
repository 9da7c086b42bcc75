"""An agent: its wallet, its paying client, its recorder, and the life in which it tells one story."""

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Protocol

import httpx
from solders.keypair import Keypair
from tollwatch import AsyncTollwatchTransport, Backoff, Recorder, Tuning
from x402 import x402Client
from x402.http.clients.httpx import x402_httpx_transport
from x402.schemas import PaymentRequirements, PaymentRequirementsV1

from sandbox.chain_client import CALL_TIMEOUT_S, ChainClient
from sandbox.desk import Buyer, Desk, Order
from sandbox.diary import Diary, Tally
from sandbox.errors import Stopping
from sandbox.exact_svm import ExactSvmScheme
from sandbox.funding import Purse, Treasury
from sandbox.http_client import http_client, http_transport, sync_client
from sandbox.places import Places, Setting
from sandbox.profiles import Profile, registration
from sandbox.purchase import buy
from sandbox.sessions import Sessions
from sandbox.shopping import shopping
from sandbox.story_time import StoryTime
from sandbox.voice import Voice

STOP_GRACE_S = 2.0
FLUSH_S = 3.0
LINGER_S = 0.1
MAX_BACKOFF_S = 15.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.25, 5.0
"""Of a purchase's retries, in story time."""

LEAST_ANSWER_TIMEOUT_S = 2.5
"""However fast a story is told: a settlement takes a second of real time."""

AFTER_A_CRASH_S = 10.0

log = logging.getLogger(__name__)

Terms = PaymentRequirements | PaymentRequirementsV1


class Story(Protocol):
    """What an agent lives through, over and over."""

    async def cycle(self) -> None:
        """Once through the story. Raises Stopping when the agent is to stop."""


class Agent:
    """One agent with its wallet. `begin` sets it going, `stop` ends it; the rest is what its story uses."""

    def __init__(self, profile: Profile, wallet: Keypair, setting: Setting) -> None:
        places, self._seed = setting.places, setting.seed
        self.profile = profile
        self.places = places
        self.address = str(wallet.pubkey())
        self.tally, self.diary = Tally(), Diary()
        self.recorder = Recorder(
            places.tollwatch,
            places.tollwatch_key,
            profile.name,
            registration=registration(profile, self.address, places),
            tuning=Tuning(unix_ms=setting.unix_ms, http=sync_client, linger_s=LINGER_S, max_backoff_s=MAX_BACKOFF_S),
        )
        self.voice = Voice(self.recorder, self.diary, self.tally)
        self.time = StoryTime(setting.speed)
        self.http = http_client(CALL_TIMEOUT_S)
        chain = ChainClient(places.chain, self.http)
        self.purse = Purse(
            profile,
            wallet.pubkey(),
            chain,
            treasury=Treasury(setting.treasury, chain, setting.poll_s),
            voice=self.voice,
        )
        self.sessions = self._sessions(setting) if profile.tx_limit is not None else None
        self.desk = Desk(
            buyer=Buyer(
                wallet=self.address,
                facilitator=places.facilitator,
                max_retries=profile.max_retries,
                pays_again=profile.pays_again,
            ),
            http=self._paying_client(wallet, chain, places),
            voice=self.voice,
            tally=self.tally,
            time=self.time,
            backoff=Backoff(
                first_s=self.time.real_s(FIRST_BACKOFF_S),
                max_s=self.time.real_s(LAST_BACKOFF_S),
                dice=self.dice("retries"),
            ),
            sessions=self.sessions,
        )
        self._plan = shopping(setting.seed, profile.name, profile.basket)
        self._in_hand: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None

    # Its life

    def begin(self, story: Story, cycles: int = 0) -> asyncio.Task[None]:
        """Start to report, and to live through `story` so many times (0: until stopped)."""
        self.recorder.start()
        self._life = asyncio.create_task(self._live(story, cycles))
        return self._life

    @property
    def ended(self) -> bool:
        """Whether its story is over."""
        return self._life is not None and self._life.done()

    async def stop(self) -> None:
        """Start nothing new, wait a moment for what is in hand, abandon the rest, flush the report."""
        self.time.stop()
        if self._life is not None:
            await asyncio.wait({self._life}, timeout=STOP_GRACE_S)
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
            if self.sessions is not None:
                self.sessions.close()
        await self.recorder.aclose(FLUSH_S)
        await self.desk.http.aclose()
        await self.http.aclose()

    async def _live(self, story: Story, cycles: int) -> None:
        done = 0
        while done < cycles or not cycles:
            try:
                await self._cycle(story)
            except Stopping:
                break
            done += 1
        await self.drain()

    async def _cycle(self, story: Story) -> None:
        """One cycle. What goes wrong with it is logged, and a demo that runs for days goes on."""
        try:
            await story.cycle()
        except Stopping:
            raise
        except Exception:
            log.exception("story_crashed agent=%s", self.profile.name)
            await self.time.pause(AFTER_A_CRASH_S)

    # What stories use

    def dice(self, purpose: str) -> random.Random:
        """Dice that fall the same way for the same seed, agent and purpose."""
        return random.Random(f"{self._seed}/{self.profile.name}/{purpose}")  # noqa: S311

    def next_order(self) -> tuple[Order, float]:
        """The next request of its plan, and the share of the mean pause before the one after."""
        service, path, share = next(self._plan)
        return Order(request_id=self.voice.new_id(), service=self.places.service(service), path=path), share

    async def buy(self, order: Order) -> str | None:
        """Make a purchase, and see that there is money for the next; None, or what it failed of."""
        try:
            error_type = await buy(self.desk, order)
        except Stopping:
            raise
        except Exception:
            log.exception("purchase_crashed agent=%s", self.profile.name)
            self.tally.failed += 1
            return "other"
        await self.purse.mind_the_floor()
        return error_type

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Do something meanwhile."""
        task = asyncio.create_task(work)
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    @property
    def in_hand(self) -> int:
        """How many things are done meanwhile."""
        return len(self._in_hand)

    async def drain(self) -> None:
        """Wait until nothing is in hand."""
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    # Its parts

    def _sessions(self, setting: Setting) -> Sessions:
        assert self.profile.tx_limit is not None
        return Sessions(
            f"/v1/agents/{self.profile.name}",
            self.address,
            self.profile.tx_limit,
            voice=self.voice,
            register=self.recorder.register,
            unix_ms=setting.unix_ms,
        )

    def _paying_client(self, wallet: Keypair, chain: ChainClient, places: Places) -> httpx.AsyncClient:
        """The SDK's transport around one that watches; it pays only in the agent's asset."""
        scheme = ExactSvmScheme(wallet, chain)
        mint = str(self.profile.asset.mint)

        def own_asset(version: int, offers: list[Terms]) -> list[Terms]:
            del version
            return [terms for terms in offers if terms.asset == mint]

        client = x402Client().register("solana:*", scheme).register_policy(own_asset)
        client.on_before_payment_creation(scheme.prepare)
        client.on_after_payment_creation(self._count_payment)
        transport = x402_httpx_transport(client, AsyncTollwatchTransport(self.voice, http_transport()))
        return httpx.AsyncClient(transport=transport, timeout=self._patience_s(places), trust_env=False)

    def _count_payment(self, _: object) -> None:
        if self.sessions is not None:
            self.sessions.use()

    def _patience_s(self, places: Places) -> float:
        own = self.profile.answer_timeout_s
        if own is None:
            return places.answer_timeout_s
        return min(places.answer_timeout_s, max(self.time.real_s(own), LEAST_ANSWER_TIMEOUT_S))
