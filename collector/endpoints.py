"""The RPC endpoints in order of preference: who is asked next, who rests and for how long."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from collector.rpc_errors import EndpointFault, WrongChain
from store.logs import MASK, event, redact

ENDPOINT_RESTED = "endpoint_rested"
ENDPOINT_RECOVERED = "endpoint_recovered"
ENDPOINT_WRONG_CHAIN = "endpoint_wrong_chain"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RestPolicy:
    """Seconds that an endpoint rests after a failure."""

    base: float = 0.5
    """After the first failure; doubled by every further one."""
    most: float = 30.0
    """However many failures there were."""
    retry_after_most: float = 60.0
    """However long the endpoint asked us to stay away."""
    wrong_chain: float = 300.0
    """An endpoint of another network; afterwards its genesis hash is asked for again."""

    def seconds(self, failures: int, fault: EndpointFault, jitter: float) -> float:
        """The rest after `failures` (from 1) in a row; `jitter` from 0 to 1 takes off up to half of the backoff."""
        if isinstance(fault, WrongChain):
            return self.wrong_chain
        backoff = min(self.most, self.base * 2.0 ** min(failures - 1, 30)) * (1 - jitter / 2)
        return max(backoff, min(fault.retry_after or 0.0, self.retry_after_most))


@dataclass(kw_only=True, eq=False)
class Endpoint:
    """One node's URL and how it has been lately. `label` is all that logs, errors and metrics may show."""

    label: str
    url: str = field(repr=False)
    verified: bool = False
    """Whether its genesis hash was compared since it last failed: behind the URL may be another node by now."""
    rest_until: float = 0.0
    failures: int = 0
    period: int = 0
    """Counts the rests. Calls under way when a rest began say nothing about what comes after it."""
    last_fault: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """Held while its genesis hash is asked for."""

    def scrub(self, text: str) -> str:
        """`text`, as a node sent it, without this URL's secrets, on one line of at most 200 characters."""
        parts = urlsplit(self.url)
        pieces = [*parts.path.split("/"), *parts.query.replace("=", "&").split("&"), parts.username, parts.password]
        for piece in sorted({piece for piece in pieces if piece and len(piece) > 3}, key=len, reverse=True):
            text = text.replace(piece, MASK).replace(unquote(piece), MASK)
        return redact("".join(mark if mark.isprintable() else " " for mark in text))[:200]


class EndpointPool:
    """Chooses endpoints. `clock` gives monotonic seconds, `jitter` a number from 0 to 1."""

    def __init__(
        self,
        urls: Sequence[str],
        policy: RestPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.endpoints = [Endpoint(label=label, url=url) for label, url in zip(labels(urls), urls, strict=True)]
        self._policy = policy or RestPolicy()
        self._clock = clock
        self._jitter = jitter

    def choose(self) -> Endpoint:
        """The most preferred endpoint that does not rest; when all do, the one that is back first."""
        now = self._clock()
        rested = (endpoint for endpoint in self.endpoints if endpoint.rest_until <= now)
        return next(rested, None) or min(self.endpoints, key=lambda endpoint: endpoint.rest_until)

    def rest_left(self, endpoint: Endpoint) -> float:
        """Seconds until an endpoint may be asked again; 0: now."""
        return max(0.0, endpoint.rest_until - self._clock())

    def has_other(self, endpoint: Endpoint) -> bool:
        """Whether someone else could be asked now."""
        now = self._clock()
        return any(other is not endpoint and other.rest_until <= now for other in self.endpoints)

    def describe(self) -> str:
        """How every endpoint last failed, for a message."""
        return "; ".join(endpoint.last_fault or f"{endpoint.label}: no failure" for endpoint in self.endpoints)

    def rest(self, endpoint: Endpoint, fault: EndpointFault, period: int) -> None:
        """A call that began in `period` failed. Calls that fail together count as one failure."""
        if period != endpoint.period:
            return
        endpoint.period += 1
        endpoint.failures += 1
        endpoint.verified = False
        seconds = self._policy.seconds(endpoint.failures, fault, self._jitter())
        endpoint.rest_until = self._clock() + seconds
        endpoint.last_fault = str(fault)
        self._tell(endpoint, fault, seconds)

    def restore(self, endpoint: Endpoint, period: int) -> None:
        """A call that began in `period` was answered."""
        if period == endpoint.period and endpoint.failures:
            event(log, logging.INFO, ENDPOINT_RECOVERED, endpoint=endpoint.label, failures=endpoint.failures)
            endpoint.failures = 0
            endpoint.last_fault = ""

    @staticmethod
    def _tell(endpoint: Endpoint, fault: EndpointFault, seconds: float) -> None:
        if isinstance(fault, WrongChain):
            event(log, logging.ERROR, ENDPOINT_WRONG_CHAIN, endpoint=endpoint.label, error=fault)
        elif endpoint.failures == 1:
            rest_s = round(seconds, 3)
            event(log, logging.WARNING, ENDPOINT_RESTED, endpoint=endpoint.label, rest_s=rest_s, error=fault)


def labels(urls: Sequence[str]) -> list[str]:
    """host[:port] of every URL; where several share it, #2, #3, … follow."""
    seen: Counter[str] = Counter()
    found = []
    for url in urls:
        label = _host(url)
        seen[label] += 1
        found.append(label if seen[label] == 1 else f"{label}#{seen[label]}")
    return found


def _host(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"
