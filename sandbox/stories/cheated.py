"""Cheated: it pays sellers that take the money and answer badly (sandbox.troubles), so its payments stay unknown.

It also learns of its wallet session's limit only when a payment is refused.
"""

from sandbox.agents import Agent
from sandbox.troubles import CHEATING

PAUSE_S = 4.0


class Cheated:
    """One cycle is one of each of the seller's tricks."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def cycle(self) -> None:
        """Ask for as many things as the seller has tricks; those refused for want of a session do not count."""
        asked = 0
        while asked < len(CHEATING):
            asked += await self._ask()
            await self._agent.time.pause(PAUSE_S)

    async def _ask(self) -> bool:
        """Whether the seller was asked at all."""
        order, _ = self._agent.next_order()
        error_type, sessions = await self._agent.buy(order), self._agent.sessions
        if sessions is None or error_type not in ("session_limit", "session_expired"):
            return True
        if error_type == "session_limit":
            sessions.limit_reached(order.request_id)
        sessions.replace()
        return False
