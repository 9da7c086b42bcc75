"""Liar: it asks for terms, does not pay, and claims a settlement that the chain does not know, among true ones."""

import os

from solders.signature import Signature
from x402.http import PAYMENT_REQUIRED_HEADER, decode_payment_required_header
from x402.schemas import PaymentRequired, PaymentRequirements

from sandbox.agents import Agent
from sandbox.attempt import Attempt
from sandbox.claim import Claim
from sandbox.desk import Order

PAUSE_S = 5.0
DECK = (True, True, True, False)
"""Whether each claim of a cycle is true."""


class Lie(Claim):
    """A claim of a payment that was never made; it counts in no tally."""

    def keep(self, signature: object) -> None:
        """Write it down as what it is."""
        self.desk.voice.diary.false.add(payment_id=self.payment_id, signature=signature)


class Liar:
    """One cycle is a deck of truths and lies."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._dice = agent.dice("lies")

    async def cycle(self) -> None:
        """Buy or lie, in an order of its own."""
        for honest in self._dice.sample(DECK, len(DECK)):
            order, _ = self._agent.next_order()
            if honest:
                await self._agent.buy(order)
            else:
                await self._lie(order)
            await self._agent.time.pause(PAUSE_S)

    async def _lie(self, order: Order) -> None:
        """Tell of a purchase that looks like any other. Raises httpx.HTTPError, ValueError without proper terms."""
        response = await self._agent.http.get(order.resource)
        required = decode_payment_required_header(response.headers.get(PAYMENT_REQUIRED_HEADER, ""))
        if not isinstance(required, PaymentRequired):
            raise ValueError("terms of another version of x402")  # noqa: TRY004 - as the decoder does
        attempt = Attempt(self._agent.desk, order, 1)
        attempt.required = required
        attempt.claim = self._pretend(order, required)
        attempt.status, attempt.body = 200, response.content
        attempt.tell("ok")

    def _pretend(self, order: Order, required: PaymentRequired) -> Lie:
        mint = str(self._agent.profile.asset.mint)
        terms: PaymentRequirements = next(one for one in required.accepts if one.asset == mint)
        signature = str(Signature.from_bytes(os.urandom(64)))
        lie = Lie(self._agent.desk, order, 1, terms)
        lie.conclude(
            "settled",
            signature=signature,
            facilitator_response={
                "success": True,
                "payer": self._agent.address,
                "transaction": signature,
                "network": terms.network,
                "amount": terms.amount,
            },
        )
        return lie
