"""A seller that speaks x402 version 1, in front of the sandbox's own facilitator and chain."""

from __future__ import annotations

import base64
import json
import secrets

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.chain import NETWORK
from sandbox.tokens import ASSETS

PRICE = "700"


class SellerV1:
    """GET /{anything} costs PRICE atomic units of any asset. `silent` answers without a settlement header."""

    def __init__(self, world, *, silent=False):
        self._pay_to = str(world.wallets.seller.pubkey())
        self._fee_payer = str(world.wallets.facilitator.pubkey())
        self._facilitator = world.places.facilitator
        self._silent = silent
        self._open = {}
        self.settled = []

    def _terms(self, url):
        memo = secrets.token_hex(8)
        accepts = [
            {
                "scheme": "exact", "network": "solana", "maxAmountRequired": PRICE, "resource": url, "description": "a price",
                "mimeType": "application/json", "payTo": self._pay_to, "maxTimeoutSeconds": 60, "asset": mint,
                "extra": {"feePayer": self._fee_payer, "memo": memo},
            }
            for mint in ASSETS
        ]  # fmt: skip
        self._open[url] = accepts
        return accepts

    async def sell(self, request):
        url, header = str(request.url), request.headers.get("x-payment")
        if header is None:
            return JSONResponse(
                {"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": self._terms(url)}, 402
            )
        payment = json.loads(base64.b64decode(header))
        settled = {}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            for offer in self._open[url]:  # version 1 does not say which asset is paid: the facilitator does
                terms = {
                    **{name: offer[name] for name in ("scheme", "asset", "payTo", "maxTimeoutSeconds", "extra")},
                    "network": NETWORK,
                    "amount": offer["maxAmountRequired"],
                }
                payload = {"x402Version": 2, "payload": payment["payload"], "accepted": terms}
                body = {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": terms}
                settled = (await http.post(f"{self._facilitator}/settle", json=body)).json()
                if settled["success"]:
                    break
        if not settled["success"]:
            error = {"x402Version": 1, "error": settled["errorReason"], "accepts": self._terms(url)}
            return JSONResponse(error, 402)
        self.settled.append(settled["transaction"])
        told = base64.b64encode(json.dumps({**settled, "network": "solana"}).encode()).decode()
        return JSONResponse({"price": "1"}, headers={} if self._silent else {"X-PAYMENT-RESPONSE": told})

    def app(self):
        return Starlette(routes=[Route("/{path:path}", self.sell)])
