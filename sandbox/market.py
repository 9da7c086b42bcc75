"""A paid market data API: x402 version 2 in front of two resources.

For each request: is it sound (never charge for a 404), is it paid, does the facilitator find the payment valid; then
the work, then the settlement, and only then the answer.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from x402.http import (
    PAYMENT_REQUIRED_HEADER,
    PAYMENT_RESPONSE_HEADER,
    PAYMENT_SIGNATURE_HEADER,
    HTTPFacilitatorClient,
    encode_payment_required_header,
    encode_payment_response_header,
)
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements, ResourceInfo, SettleResponse

from sandbox import tokens
from sandbox.chain import NETWORK
from sandbox.clock import UnixMs
from sandbox.paywall import Challenges, read_payload
from sandbox.prices import START_TICKS, RandomWalk, dollars

_SYMBOL = re.compile(r"[A-Za-z0-9]{2,10}")


@dataclass(frozen=True, kw_only=True)
class Product:
    """A resource for sale: its price in atomic units of any accepted asset, and the work that makes it."""

    name: str
    price: int
    description: str
    make: Callable[[RandomWalk], Mapping[str, object]]


PRODUCTS = {
    product.name: product
    for product in (
        Product(
            name="price",
            price=1000,
            description="The latest price in dollars",
            make=lambda walk: {"price": dollars(walk.step())},
        ),
        Product(
            name="orderbook",
            price=2500,
            description="Five levels of bids and asks",
            make=lambda walk: walk.book(),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class _Sale:
    """What one request wants: the resource's own URL (whatever Host the client names), the product, its data."""

    url: str
    product: Product
    walk: RandomWalk


class Market:
    """Sells market data at `base_url`; a product costs the same number of atomic units in every asset."""

    def __init__(
        self, base_url: str, challenges: Challenges, facilitator: HTTPFacilitatorClient, *, seed: int, unix_ms: UnixMs
    ) -> None:
        self._base_url = base_url
        self._challenges = challenges
        self._facilitator = facilitator
        self._unix_ms = unix_ms
        self._walks = {symbol: RandomWalk(seed, symbol) for symbol in START_TICKS}

    async def describe(self, _: Request) -> Response:
        """GET /: what is sold, and how to pay for it."""
        return _json(
            {
                "name": "Sandbox market data",
                "payment": {"x402Version": 2, "scheme": "exact", "network": NETWORK, "assets": list(tokens.ASSETS)},
                "symbols": list(START_TICKS),
                "products": [
                    {
                        "url": f"{self._base_url}/v1/{product.name}/{{symbol}}",
                        "description": product.description,
                        "price_atomic": str(product.price),
                    }
                    for product in PRODUCTS.values()
                ],
            }
        )

    async def sell(self, request: Request) -> Response:
        """GET /v1/{product}/{symbol}."""
        symbol, product = request.path_params["symbol"], PRODUCTS.get(request.path_params["product"])
        if not _SYMBOL.fullmatch(symbol):
            return _problem(400, "a symbol is two to ten letters or digits")
        walk = self._walks.get(symbol.upper())
        if product is None or walk is None:
            return _problem(404, "nothing is sold here; GET / lists what is")
        sale = _Sale(url=f"{self._base_url}/v1/{product.name}/{symbol.upper()}", product=product, walk=walk)
        header = request.headers.get(PAYMENT_SIGNATURE_HEADER)
        return self._challenge(sale, "payment required") if header is None else await self._paid(sale, header)

    async def _paid(self, sale: _Sale, header: str) -> Response:
        payload = read_payload(header)
        if payload is None:
            return _problem(400, "PAYMENT-SIGNATURE is not a version 2 payment payload")
        terms = self._challenges.find(sale.url, payload)
        if terms is None:
            return self._challenge(sale, "these terms are not on offer")
        try:
            return await self._deliver(sale, payload, terms)
        except (httpx.HTTPError, ValueError):
            return _problem(502, "the facilitator does not answer")

    async def _deliver(self, sale: _Sale, payload: PaymentPayload, terms: PaymentRequirements) -> Response:
        verified = await self._facilitator.verify(payload, terms)
        if not verified.is_valid:
            return self._challenge(sale, verified.invalid_reason or "invalid_payload")
        if not self._challenges.close(terms):
            return self._challenge(sale, "duplicate_settlement")
        as_of = datetime.fromtimestamp(self._unix_ms() / 1000, UTC)
        stamp = as_of.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        goods = {**sale.product.make(sale.walk), "as_of": stamp}
        settled = await self._facilitator.settle(payload, terms)
        headers = {PAYMENT_RESPONSE_HEADER: encode_payment_response_header(settled)}
        if not settled.success:
            return _json(_unsettled(settled), 402, headers)
        return _json({"resource": sale.url, **goods}, 200, headers)

    def _challenge(self, sale: _Sale, error: str) -> Response:
        description = sale.product.description
        required = PaymentRequired(
            error=error,
            resource=ResourceInfo(url=sale.url, description=description, mime_type="application/json"),
            accepts=self._challenges.issue(sale.url, sale.product.price),
        )
        return _json({"error": error}, 402, {PAYMENT_REQUIRED_HEADER: encode_payment_required_header(required)})


def market_app(market: Market) -> Starlette:
    """GET /, GET /v1/price/{symbol}, GET /v1/orderbook/{symbol}."""
    return Starlette(
        routes=[
            Route("/", market.describe, methods=["GET"]),
            Route("/v1/{product}/{symbol}", market.sell, methods=["GET"]),
        ]
    )


def _unsettled(settled: SettleResponse) -> dict[str, object]:
    return {"error": "the payment was not settled", "reason": settled.error_reason}


def _problem(status: int, message: str) -> Response:
    return _json({"error": message}, status)


def _json(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers, media_type="application/json")
