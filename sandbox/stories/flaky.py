"""Flaky: its upstream fails in episodes (sandbox.troubles), which it meets with retries and a circuit breaker.

One request at a time. While the breaker is open the agent goes on wanting, and each request it does not make is told
as skipped.
"""

from dataclasses import replace

from sandbox.agents import Agent
from sandbox.breaker import CLOSED, FAILURES_TO_OPEN, HALF_OPEN, Breaker
from sandbox.purchase import skip

PAUSE_S = 3.0

_SEVERITY = {"open": "error", "half_open": "info", "closed": "info"}


class Flaky:
    """One cycle is until the breaker has opened and closed again."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._component = agent.profile.services[0]
        self._breaker = Breaker(agent.profile.breaker_timeout_s, lambda: agent.time.now_s, self._tell)

    async def cycle(self) -> None:
        """Want things until the breaker opens, and until it is closed again."""
        await self._want()
        while self._breaker.state == CLOSED:
            await self._want()
        while self._breaker.state != CLOSED:
            await self._want()

    async def _want(self) -> None:
        order, _ = self._agent.next_order()
        admitted = self._breaker.admits()
        state = self._breaker.state
        order = replace(order, breaker_state=state, retries=state != HALF_OPEN)
        if admitted:
            self._breaker.record(success=await self._agent.buy(order) is None)
        else:
            skip(self._agent.desk, order)
        await self._agent.time.pause(PAUSE_S)

    def _tell(self, state: str) -> None:
        timeout_s = self._agent.profile.breaker_timeout_s
        details = {"failures_to_open": FAILURES_TO_OPEN, "breaker_timeout_s": timeout_s}
        self._agent.voice.breaker(self._component, state, _SEVERITY[state], **details)
