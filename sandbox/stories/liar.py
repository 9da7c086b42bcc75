"""Liar: it asks for terms, does not pay, and claims a settlement that the chain does not know, among true ones."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from solders.signature import Signature
from tollwatch import ApiRequest, Payment
from tollwatch.x402 import REQUIRED_HEADER, Offer, Terms, terms_of_header

from sandbox.agents import Agent
from sandbox.desk import Order

PAUSE_S = 5.0
DECK = (True, True, True, False)
"""Whether each claim of a cycle is true."""


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
        terms = terms_of_header(response.headers.get(REQUIRED_HEADER))
        if terms is None:
            raise ValueError("the seller asked for nothing")
        payment_id = self._claim(order, terms)
        self._agent.voice.record(
            ApiRequest(
                **self._common(order),
                request_id=order.request_id,
                attempt=1,
                max_retries=self._agent.profile.max_retries,
                endpoint_type=order.service.name,
                component=order.service.name,
                breaker_state=order.breaker_state,
                method="GET",
                response_status=200,
                x402_version=terms.version,
                payment_required=terms.told,
                payment_id=payment_id,
                paid=True,
                latency_ms=round(response.elapsed.total_seconds() * 1000),
                outcome="ok",
                response_digest=hashlib.sha256(response.content).hexdigest(),
                response_bytes=len(response.content),
            )
        )

    def _claim(self, order: Order, terms: Terms) -> str:
        """Claim a payment, pending and settled; its id."""
        agent = self._agent
        offer = next(one for one in terms.offers if one.asset == str(agent.profile.asset.mint))
        payment_id, signature = agent.voice.new_id(), str(Signature.from_bytes(os.urandom(64)))
        told = {
            "success": True,
            "payer": agent.address,
            "transaction": signature,
            "network": offer.network,
            "amount": offer.amount,
        }
        common = self._payment(order, offer, payment_id)
        agent.voice.lie(Payment(**common, status="pending"))
        agent.voice.lie(Payment(**common, status="settled", signature=signature, facilitator_response=told))
        return payment_id

    def _payment(self, order: Order, offer: Offer, payment_id: str) -> Mapping[str, Any]:
        return {
            **self._common(order),
            "payment_id": payment_id,
            "request_id": order.request_id,
            "x402_payment_id": offer.memo,
            "amount": offer.amount,
            "asset": offer.asset,
            "network": offer.network,
            "pay_to": offer.pay_to,
            "facilitator": self._agent.places.facilitator,
            "retry_count": 0,
            "metadata": {"scheme": offer.scheme, "attempt": 1},
        }

    def _common(self, order: Order) -> dict[str, Any]:
        return {"wallet": self._agent.address, "service": order.service.url, "resource": order.resource}
