"""An httpx transport that sees every exchange of a purchase, below the x402 SDK.

The SDK's hooks are not called for a 200 without a settlement header, a 500, or a timeout after paying: exactly the
cases in which money may be lost.
"""

from typing import Protocol

import httpx
from x402.http import (
    PAYMENT_REQUIRED_HEADER,
    PAYMENT_RESPONSE_HEADER,
    PAYMENT_SIGNATURE_HEADER,
    decode_payment_required_header,
    decode_payment_response_header,
    decode_payment_signature_header,
)
from x402.schemas import PaymentPayload, PaymentRequired, SettleResponse

WATCHER = "sandbox.watcher"
"""The request extension that holds the watcher; the SDK copies extensions to the paid request."""


class Watcher(Protocol):
    """Is told what happens to one request."""

    def challenged(self, required: PaymentRequired) -> None:
        """The seller asks for payment."""

    def paying(self, payload: PaymentPayload) -> None:
        """The signed payment is about to leave."""

    def answered(self, status: int, settled: SettleResponse | None, refusal: str | None) -> None:
        """The paid request has an answer: the settlement that it claims, or the reason of a second challenge."""

    def lost(self, error: BaseException) -> None:
        """The paid request has no answer: nobody here knows what became of the money."""


class ObservedTransport(httpx.AsyncBaseTransport):
    """Passes requests on, and tells the request's watcher, if it has one."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; errors pass through."""
        watcher: Watcher | None = request.extensions.get(WATCHER)
        header = request.headers.get(PAYMENT_SIGNATURE_HEADER)
        if watcher is None:
            return await self._inner.handle_async_request(request)
        if header is None:
            response = await self._inner.handle_async_request(request)
            required = _read_required(response)
            if required is not None:
                watcher.challenged(required)
            return response
        return await self._pay(request, header, watcher)

    async def _pay(self, request: httpx.Request, header: str, watcher: Watcher) -> httpx.Response:
        payload = decode_payment_signature_header(header)
        if isinstance(payload, PaymentPayload):
            watcher.paying(payload)
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as exc:
            watcher.lost(exc)
            raise
        required = _read_required(response)
        watcher.answered(response.status_code, _read_settlement(response), required.error if required else None)
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()


def _read_required(response: httpx.Response) -> PaymentRequired | None:
    header = response.headers.get(PAYMENT_REQUIRED_HEADER)
    if response.status_code != 402 or header is None:
        return None
    try:
        required = decode_payment_required_header(header)
    except (ValueError, AttributeError):
        return None
    return required if isinstance(required, PaymentRequired) else None


def _read_settlement(response: httpx.Response) -> SettleResponse | None:
    header = response.headers.get(PAYMENT_RESPONSE_HEADER)
    try:
        return None if header is None else decode_payment_response_header(header)
    except ValueError:
        return None
