"""A paid API: x402 version 2 in front of what a catalogue offers.

For each request: is it sound (never charge for a 404), is it paid, does the facilitator find the payment valid; then
the work, then the settlement, and only then the answer. Where a product is in trouble (sandbox.troubles), that is where
it happens.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

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
from sandbox.clock import UnixMs, rfc3339
from sandbox.paywall import Challenges, read_payload
from sandbox.troubles import Act, honest

_ITEM = re.compile(r"[A-Za-z0-9-]{2,20}")


@dataclass(frozen=True, kw_only=True)
class Product:
    """A kind of resource: its price in atomic units of any accepted asset, and the work that makes it of an item."""

    name: str
    price: int
    description: str
    make: Callable[[str], Mapping[str, object]]
    acts: Iterator[Act] = field(default_factory=honest)
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What an API sells: products of items, which it calls `symbol` or `topic`; `spell` writes one as in `items`."""

    title: str
    item: str
    items: tuple[str, ...]
    spell: Callable[[str], str]
    products: Mapping[str, Product]


@dataclass(frozen=True, kw_only=True)
class _Sale:
    """What one request wants: the resource's own URL (whatever Host the client names), the product, the item."""

    url: str
    product: Product
    item: str


class Seller:
    """Sells at `base_url`; a product costs the same number of atomic units in every asset."""

    def __init__(
        self,
        base_url: str,
        catalogue: Catalogue,
        *,
        challenges: Challenges,
        facilitator: HTTPFacilitatorClient,
        unix_ms: UnixMs,
    ) -> None:
        self._base_url = base_url
        self._catalogue = catalogue
        self._challenges = challenges
        self._facilitator = facilitator
        self._unix_ms = unix_ms

    async def describe(self, _: Request) -> Response:
        """GET /: what is sold, how to pay for it, and which resources cause trouble on purpose."""
        catalogue = self._catalogue
        sold = catalogue.products.values()
        return _json(
            {
                "name": catalogue.title,
                "payment": {"x402Version": 2, "scheme": "exact", "network": NETWORK, "assets": list(tokens.ASSETS)},
                f"{catalogue.item}s": list(catalogue.items),
                "products": [self._line(product) for product in sold if not product.trouble],
                "troubles": [self._line(product) | {"trouble": product.trouble} for product in sold if product.trouble],
            }
        )

    def _line(self, product: Product) -> dict[str, str]:
        return {
            "url": f"{self._base_url}/v1/{product.name}/{{{self._catalogue.item}}}",
            "description": product.description,
            "price_atomic": str(product.price),
        }

    async def sell(self, request: Request) -> Response:
        """GET /v1/{product}/{item}."""
        catalogue = self._catalogue
        item, product = request.path_params["item"], catalogue.products.get(request.path_params["product"])
        if not _ITEM.fullmatch(item):
            return _problem(400, f"a {catalogue.item} is two to twenty letters, digits or hyphens")
        item = catalogue.spell(item)
        if product is None or item not in catalogue.items:
            return _problem(404, "nothing is sold here; GET / lists what is")
        sale = _Sale(url=f"{self._base_url}/v1/{product.name}/{item}", product=product, item=item)
        header = request.headers.get(PAYMENT_SIGNATURE_HEADER)
        return self._greet(sale) if header is None else await self._paid(sale, header, request)

    def _greet(self, sale: _Sale) -> Response:
        act = next(sale.product.acts)
        if act is Act.DOWN:
            return _trouble(act)
        return self._challenge(sale, "payment required", act)

    async def _paid(self, sale: _Sale, header: str, request: Request) -> Response:
        payload = read_payload(header)
        if payload is None:
            return _problem(400, "PAYMENT-SIGNATURE is not a version 2 payment payload")
        terms = self._challenges.find(sale.url, payload)
        if terms is None:
            return self._challenge(sale, "these terms are not on offer")
        try:
            return await self._deliver(sale, payload, terms, request)
        except (httpx.HTTPError, ValueError):
            return _problem(502, "the facilitator does not answer")

    async def _deliver(
        self, sale: _Sale, payload: PaymentPayload, terms: PaymentRequirements, request: Request
    ) -> Response:
        verified = await self._facilitator.verify(payload, terms)
        if not verified.is_valid:
            return self._challenge(sale, verified.invalid_reason or "invalid_payload")
        act = self._challenges.close(terms)
        if act is None:
            return self._challenge(sale, "duplicate_settlement")
        if act is Act.UNSETTLED:
            return _unsettled(_refused(act, verified.payer))
        goods = {**sale.product.make(sale.item), "as_of": rfc3339(self._unix_ms())}
        settled = await self._facilitator.settle(payload, terms)
        if not settled.success:
            return _unsettled(settled)
        sold = _json({"resource": sale.url, **goods}, 200, _told(settled))
        return sold if act is Act.HONEST else await _misbehave(act, sold, request)

    def _challenge(self, sale: _Sale, error: str, act: Act = Act.HONEST) -> Response:
        description = sale.product.description
        required = PaymentRequired(
            error=error,
            resource=ResourceInfo(url=sale.url, description=description, mime_type="application/json"),
            accepts=self._challenges.issue(sale.url, sale.product.price, act),
        )
        return _json({"error": error}, 402, {PAYMENT_REQUIRED_HEADER: encode_payment_required_header(required)})


def seller_app(seller: Seller) -> Starlette:
    """GET /, and GET /v1/{product}/{item} for everything that the catalogue offers."""
    return Starlette(
        routes=[
            Route("/", seller.describe, methods=["GET"]),
            Route("/v1/{product}/{item}", seller.sell, methods=["GET"]),
        ]
    )


async def _misbehave(act: Act, sold: Response, request: Request) -> Response:
    """What a customer gets who has paid, instead of what was `sold`."""
    if act is Act.SILENT:
        return Response(sold.body, media_type="application/json")
    if act is Act.PAID_AND_DOWN:
        return _trouble(act, {PAYMENT_RESPONSE_HEADER: sold.headers[PAYMENT_RESPONSE_HEADER]})
    if act is Act.HANG:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    return _trouble(act, status=500)


def _refused(act: Act, payer: str | None) -> SettleResponse:
    return SettleResponse(
        success=False,
        error_reason="transaction_failed",
        error_message=f"a trouble of the sandbox: {act.value}",
        payer=payer,
        transaction="",
        network=NETWORK,
    )


def _told(settled: SettleResponse) -> dict[str, str]:
    return {PAYMENT_RESPONSE_HEADER: encode_payment_response_header(settled)}


def _unsettled(settled: SettleResponse) -> Response:
    return _json({"error": "the payment was not settled", "reason": settled.error_reason}, 402, _told(settled))


def _trouble(act: Act, headers: dict[str, str] | None = None, status: int = 503) -> Response:
    return _json({"error": f"a trouble of the sandbox: {act.value}"}, status, headers)


def _problem(status: int, message: str) -> Response:
    return _json({"error": message}, status)


def _json(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers, media_type="application/json")
