"""One HTTP exchange with one endpoint. Knows HTTP and its failures, nothing of JSON-RPC."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from collector.endpoints import Endpoint
from collector.rpc_errors import (
    AccessRefused,
    EndpointFault,
    EndpointTimeout,
    EndpointUnreachable,
    HttpFault,
    MalformedAnswer,
    RateLimited,
)

MAX_ANSWER_BYTES = 16 * 1024**2
MAX_CONNECTIONS = 16
"""httpx becomes very slow above 32; a run has `sample_concurrency` calls under way."""

_HEADERS = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Transport:
    """A bounded set of connections. `now` gives the time that a Retry-After date is compared with."""

    def __init__(self, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._client = httpx.AsyncClient(
            # No proxies or credentials out of the environment; callers bound the time of a whole exchange.
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            headers=_HEADERS,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def post(self, endpoint: Endpoint, body: bytes) -> bytes:
        """The body of a 200 answer. Raises EndpointFault. Waits as long as it takes: the caller has the deadline."""
        try:
            async with self._client.stream("POST", endpoint.url, content=body) as response:
                if response.status_code != 200:
                    raise self._status_fault(endpoint, response)
                return await _read_bounded(endpoint, response)
        except httpx.TimeoutException as exc:
            raise EndpointTimeout(f"{endpoint.label}: {type(exc).__name__}") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
            # `from None`: the URL, and the key in it, hang on the original.
            raise EndpointUnreachable(f"{endpoint.label}: {type(exc).__name__}") from None

    def _status_fault(self, endpoint: Endpoint, response: httpx.Response) -> EndpointFault:
        status = response.status_code
        kind: type[EndpointFault] = HttpFault
        if status == 429:
            kind = RateLimited
        elif status in (401, 403):
            kind = AccessRefused
        seconds = retry_after(response.headers.get("retry-after", ""), self._now())
        return kind(f"{endpoint.label}: HTTP {status}", retry_after=seconds)


async def _read_bounded(endpoint: Endpoint, response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        # We asked for identity. Unpacking a few bytes may give gigabytes.
        raise MalformedAnswer(f"{endpoint.label}: compressed answer")
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise MalformedAnswer(f"{endpoint.label}: answer of more than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def retry_after(value: str, now: datetime) -> float | None:
    """Retry-After (RFC 9110, 10.2.3), seconds or a date → seconds from now, 0 or more; None: unreadable."""
    text = value.strip()
    try:
        seconds = float(text) if text[:1].isdigit() else (parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
