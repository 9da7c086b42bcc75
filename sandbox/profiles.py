"""The agents of this world, and what Tollwatch is told about each before its first event."""

from dataclasses import dataclass

from tollwatch import Registration

from sandbox.chain import NETWORK
from sandbox.places import KNOWLEDGE, MARKET_DATA, Places
from sandbox.tokens import ASSETS, CASH, USDC, Asset

PURSE_ATOMIC = 50_000_000
"""What an agent starts with, of either token, and is topped up to."""

FLOOR_ATOMIC = 10_000_000
"""The treasury does not let an agent fall below this; it is above the threshold, so nobody is alarmed."""

Basket = tuple[tuple[str, str, int], ...]
"""(service, product, weight) of what an agent buys."""

MARKET_BASKET: Basket = ((MARKET_DATA, "price", 3), (MARKET_DATA, "orderbook", 1))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An agent. Amounts are atomic units of `asset`; a `floor` of None is an agent whom nobody looks after unasked.

    `answer_timeout_s` is how long it waits for a seller at speed 1. `pays_again` tells whether it repeats a request
    that it has paid for and got nothing. `tx_limit` is of its wallet sessions; None pays without one.
    """

    name: str
    story: str
    asset: Asset
    basket: Basket = MARKET_BASKET
    purse: int = PURSE_ATOMIC
    floor: int | None = FLOOR_ATOMIC
    threshold: int = 5_000_000
    low_balance_tokens: str = "0.01"
    freshness_window_s: int = 60
    max_retries: int = 3
    breaker_timeout_s: int = 300
    answer_timeout_s: float | None = None
    pays_again: bool = False
    tx_limit: int | None = None

    @property
    def services(self) -> list[str]:
        """The names of the services that it buys from."""
        return list(dict.fromkeys(service for service, _, _ in self.basket))


PROFILES = (
    Profile(name="scout", story="healthy", asset=USDC, tx_limit=1000),
    Profile(name="oracle", story="healthy", asset=CASH, tx_limit=1000),
    Profile(
        name="poor",
        story="poor",
        asset=USDC,
        basket=(*MARKET_BASKET, (KNOWLEDGE, "answer", 2), (KNOWLEDGE, "summary", 1)),
        purse=45_000,
        floor=None,
        threshold=25_000,
        low_balance_tokens="0.025",
    ),
    Profile(
        name="flaky",
        story="flaky",
        asset=USDC,
        basket=((KNOWLEDGE, "flaky", 1),),
        breaker_timeout_s=20,
        pays_again=True,
    ),
    Profile(
        name="cheated",
        story="cheated",
        asset=CASH,
        basket=((MARKET_DATA, "cheat", 1),),
        max_retries=2,
        answer_timeout_s=8.0,
        tx_limit=5,
    ),
    Profile(
        name="liar",
        story="liar",
        asset=USDC,
        basket=(*MARKET_BASKET, (KNOWLEDGE, "answer", 1)),
        max_retries=1,
    ),
)


def registration(profile: Profile, address: str, places: Places) -> Registration:
    """What Tollwatch is told before the first event."""
    services = [places.service(name) for name in profile.services]
    return Registration(
        agent={
            "name": profile.name,
            "autonomy_phase": "full",
            "network": NETWORK,
            "api_endpoints": [
                {"name": service.name, "url": service.url, "priority": priority}
                for priority, service in enumerate(services, start=1)
            ],
            "priority_rules": {
                "funds_threshold": str(profile.threshold),
                "freshness_window_s": profile.freshness_window_s,
            },
            "max_retries": profile.max_retries,
            "low_balance_threshold": profile.low_balance_tokens,
            "breaker_timeout_s": profile.breaker_timeout_s,
            "active": True,
        },
        wallets={
            address: {
                "network": NETWORK,
                "thresholds": {asset.symbol: str(profile.threshold) for asset in ASSETS.values()},
            }
        },
    )
