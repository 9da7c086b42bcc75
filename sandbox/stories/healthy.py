"""Healthy: it buys at its pace, several things at once where the pace asks for it, and renews its session in time."""

import asyncio

from sandbox.agents import Agent
from sandbox.desk import Order

CYCLE = 10
MAX_IN_FLIGHT = 16
"""Purchases under way at once: a settlement takes a slot or two, and the pace may be faster."""

SPARE_MS = 60_000
"""A session that ends sooner is replaced before the next purchase."""


class Healthy:
    """`pace` is purchases a second; a cycle is so many `purchases`."""

    def __init__(self, agent: Agent, pace: float = 1.0, purchases: int = CYCLE) -> None:
        self._agent = agent
        self._pace = pace
        self._purchases = purchases
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._share = 0.0

    async def cycle(self) -> None:
        """Start the purchases; they may end later."""
        for _ in range(self._purchases):
            await self._agent.time.pause(self._share / self._pace)
            async with self._places:
                pass  # wait for a place, which the purchase then takes itself
            await self._renew()
            order, self._share = self._agent.next_order()
            self._agent.spawn(self._buy(order))

    async def _buy(self, order: Order) -> None:
        async with self._places:
            await self._agent.buy(order)

    async def _renew(self) -> None:
        """Replace a session that might not last, when nothing is being paid under it."""
        sessions, agent = self._agent.sessions, self._agent
        if sessions is not None and not sessions.lasts(payments=agent.in_hand + 1, ms=SPARE_MS):
            await agent.drain()
            sessions.replace()
