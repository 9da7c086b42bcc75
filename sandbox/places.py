"""Where an agent turns to: the paid services, and the URLs of everything else in its world."""

from dataclasses import dataclass

from solders.keypair import Keypair

from sandbox.clock import UnixMs

ANSWER_TIMEOUT_S = 30.0
"""Longer than the facilitator waits for a confirmation, so that its answer still finds somebody."""

MARKET_DATA, KNOWLEDGE = "market_data", "knowledge"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A paid API: the name that agents know it by, which is also its breaker's, and its origin."""

    name: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Places:
    """URLs, the agents' key to Tollwatch, and how long they wait at most for a seller's answer."""

    chain: str
    facilitator: str
    market: str
    knowledge: str
    tollwatch: str
    tollwatch_key: str
    answer_timeout_s: float = ANSWER_TIMEOUT_S

    def service(self, name: str) -> Service:
        """The paid API of this name."""
        return Service(name=name, url={MARKET_DATA: self.market, KNOWLEDGE: self.knowledge}[name])


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all agents of a world share. `poll_s` is how often the treasury asks whether its transfer is confirmed."""

    places: Places
    treasury: Keypair
    unix_ms: UnixMs
    seed: int = 1
    speed: float = 1.0
    poll_s: float = 0.1
