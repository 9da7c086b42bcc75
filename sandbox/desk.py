"""What every purchase of an agent uses, and what it is about."""

from dataclasses import dataclass

import httpx
from tollwatch import About, Backoff
from tollwatch.events import BreakerState

from sandbox.diary import Tally
from sandbox.places import Service
from sandbox.sessions import Sessions
from sandbox.story_time import StoryTime
from sandbox.voice import Voice


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """Who buys, as events name it. `facilitator` is a URL; `pays_again`: also for what was paid and not delivered."""

    wallet: str
    facilitator: str
    max_retries: int
    pays_again: bool = False


@dataclass(frozen=True, kw_only=True)
class Desk:
    """An agent's identity, its paying HTTP client, its voice and diary, its patience and its wallet session."""

    buyer: Buyer
    http: httpx.AsyncClient
    voice: Voice
    tally: Tally
    time: StoryTime
    backoff: Backoff
    sessions: Sessions | None

    def about(self, order: "Order") -> About:
        """What the transport does not see of an order."""
        return About(
            service=order.service.url,
            resource=order.resource,
            method="GET",
            endpoint_type=order.service.name,
            component=order.service.name,
            breaker_state=order.breaker_state,
            max_retries=self.buyer.max_retries,
            wallet=self.buyer.wallet,
            session=self.sessions.current.id if self.sessions is not None else None,
            facilitator=self.buyer.facilitator,
        )


@dataclass(frozen=True, kw_only=True)
class Order:
    """One thing wanted: a logical request. `retries` False makes a single attempt, as a breaker's probe is one."""

    request_id: str
    service: Service
    path: str
    breaker_state: BreakerState = "closed"
    retries: bool = True

    @property
    def resource(self) -> str:
        """The URL."""
        return self.service.url + self.path
