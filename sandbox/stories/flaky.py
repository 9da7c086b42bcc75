"""Flaky: its upstream fails in episodes (sandbox.troubles), which it meets with retries and a circuit breaker.

One request at a time. While the breaker is open the agent goes on wanting, and each request it does not make is told
as skipped.
"""

from dataclasses import replace

from tollwatch import CircuitBreaker

from sandbox.agents import Agent
from sandbox.purchase import skip

PAUSE_S = 3.0

FAILURES_TO_OPEN = 3


class Flaky:
    """One cycle is until the breaker has opened and closed again."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._breaker = CircuitBreaker(
            agent.voice,
            agent.profile.services[0],
            failures_to_open=FAILURES_TO_OPEN,
            timeout_s=agent.profile.breaker_timeout_s,
            clock=lambda: agent.time.now_s,
        )

    async def cycle(self) -> None:
        """Want things until the breaker opens, and until it is closed again."""
        await self._want()
        while self._is_closed():
            await self._want()
        while not self._is_closed():
            await self._want()

    def _is_closed(self) -> bool:
        return self._breaker.state == "closed"

    async def _want(self) -> None:
        order, _ = self._agent.next_order()
        admitted = self._breaker.admits()
        state = self._breaker.state
        order = replace(order, breaker_state=state, retries=state != "half_open")
        if admitted:
            self._breaker.record(success=await self._agent.buy(order) is None)
        else:
            skip(self._agent.desk, order)
        await self._agent.time.pause(PAUSE_S)
