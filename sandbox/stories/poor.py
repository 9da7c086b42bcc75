"""Poor: it buys until its money is low, pauses and queues what it wants, asks for money, gets it and catches up.

That its balance is low is for Tollwatch to find out: the agent does not tell it.
"""

from dataclasses import dataclass

from tollwatch import Queue
from tollwatch.events import QueueState

from sandbox.agents import Agent
from sandbox.desk import Order

PAUSE_S = 2.0
WANTED = 5
HESITATION_S, LOOK_S = 5.0, 2.5
"""From running low to pausing; on the wall's clock no less than it takes an observer of the chain to look."""
PATIENCE_S = 5.0
"""From the request for money to the transfer."""

FILLED_ATOMIC = 70_000
"""What it is topped up to: more than what is left below the threshold and the dearest queue cost together."""

FRESH_S, STALE_S = (0, 20), 55
"""How old the reason for a request is when it is queued; one in each cycle is too old by the time it is looked at."""


@dataclass(frozen=True, kw_only=True)
class Want:
    """A request in the queue: what it is worth (0 to 1), and when the reason for it arose, in story time."""

    order: Order
    worth: float
    since_s: float

    def freshness_s(self, now_s: float) -> int:
        """How old the reason is."""
        return int(now_s - self.since_s)

    def score(self, now_s: float, window_s: int) -> float:
        """Its priority: the worth, less the older it is; 0 for what is too old to be of use."""
        return round(self.worth * max(0.0, 1 - self.freshness_s(now_s) / window_s), 3)


class Poor:
    """One cycle is from money to money."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._dice = agent.dice("queue")

    async def cycle(self) -> None:
        """Spend, wait for money, catch up."""
        balance = await self._spend()
        queue = await self._pause(balance)
        await self._ask(balance, len(queue))
        await self._catch_up(queue)

    async def _spend(self) -> int:
        """Buy until the balance is under the threshold; that balance."""
        agent = self._agent
        while (balance := await agent.purse.balance()) >= agent.profile.threshold:
            order, _ = agent.next_order()
            await agent.buy(order)
            await agent.time.pause(PAUSE_S)
        agent.voice.keep_silent("low")
        await agent.time.pause(HESITATION_S, at_least_s=LOOK_S)
        return balance

    async def _pause(self, balance: int) -> list[Want]:
        """Stop buying; what it goes on wanting is queued."""
        agent = self._agent
        agent.voice.audit("paused", "warning", details=self._money(balance))
        stale = self._dice.randrange(WANTED)
        queue = []
        for number in range(WANTED):
            await agent.time.pause(PAUSE_S)
            want = self._want(STALE_S if number == stale else self._dice.randint(*FRESH_S))
            queue.append(want)
            self._tell("queued", want, balance)
        return queue

    def _want(self, age_s: int) -> Want:
        order, _ = self._agent.next_order()
        worth = self._dice.randint(20, 100) / 100
        return Want(order=order, worth=worth, since_s=self._agent.time.now_s - age_s)

    async def _ask(self, balance: int, queued: int) -> None:
        agent, missing = self._agent, FILLED_ATOMIC - balance
        details = {**self._money(balance), "amount": str(missing), "queued": queued}
        agent.voice.audit("top_up_requested", "warning", details=details)
        await agent.time.pause(PATIENCE_S)
        await agent.purse.top_up(missing)
        agent.voice.audit("resumed", details=self._money(await agent.purse.balance()))

    async def _catch_up(self, queue: list[Want]) -> None:
        """Take the most urgent first, and drop what is too old."""
        agent, window_s = self._agent, self._agent.profile.freshness_window_s
        for want in sorted(queue, key=self._score, reverse=True):
            balance = await agent.purse.balance()
            if want.freshness_s(agent.time.now_s) > window_s:
                self._tell("dropped", want, balance)
                continue
            await agent.buy(want.order)
            self._tell("processed", want, balance)

    def _score(self, want: Want) -> float:
        return want.score(self._agent.time.now_s, self._agent.profile.freshness_window_s)

    def _tell(self, state: QueueState, want: Want, balance: int) -> None:
        self._agent.voice.record(
            Queue(
                request_id=want.order.request_id,
                state=state,
                priority_score=self._score(want),
                reason="funds",
                asset=self._agent.profile.asset.symbol,
                balance=balance,
                freshness_s=want.freshness_s(self._agent.time.now_s),
            )
        )

    def _money(self, balance: int) -> dict[str, object]:
        profile = self._agent.profile
        return {"asset": profile.asset.symbol, "balance": str(balance), "threshold": str(profile.threshold)}
