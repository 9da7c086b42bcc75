"""Tells Tollwatch what happened, without ever delaying what happens: a bounded queue, batches, retries."""

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import msgspec

from sandbox.events import Event
from sandbox.http_client import http_client

QUEUE_LIMIT = 10_000
"""Events that wait; when one more comes the oldest is dropped, and counted."""

BATCH_LIMIT = 500
REQUEST_TIMEOUT_S = 5.0
FLUSH_TIMEOUT_S = 3.0
FAREWELLS = 3
"""Failed tries after which a reporter that closes gives up, even before its time is over."""

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 15.0
LINGER_S = 0.1
"""How long an event waits for company."""

_REFUSED = frozenset({400, 413, 415, 422})
"""The statuses that say the body is at fault: sending it again would not help."""

_NOT_NOW = frozenset({401, 403, 408, 429})
"""The statuses that say nothing about the body."""

log = logging.getLogger(__name__)


@dataclass
class Counters:
    """Events by fate. `sent` counts those in answered batches: accepted, known already, or rejected (by code).

    `unregistered` counts registrations beside the first ones that were refused, by `http_<status>`.
    """

    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    unregistered: Counter[str] = field(default_factory=Counter)


class TryLater(Exception):
    """Tollwatch did not take it now; `after_s` is what it asked to wait, if it did."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class Reporter:
    """One agent's line to Tollwatch at `url`. With an empty url it counts nothing and sends nothing.

    `registrations` maps paths to bodies that are PUT before the first event, and again when Tollwatch does not know
    the agent any more. `register` adds others on the way; those may be refused, which is counted and no more; the
    latest is repeated, too, when the agent was forgotten.
    """

    def __init__(
        self,
        url: str,
        key: str,
        registrations: Mapping[str, object],
        *,
        queue_limit: int = QUEUE_LIMIT,
        first_backoff_s: float = FIRST_BACKOFF_S,
    ) -> None:
        self.counters = Counters()
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._registrations = registrations
        self._untold: dict[str, object] = dict(registrations)
        self._latest: dict[str, object] = {}
        self._queue: deque[Event] = deque()
        self._queue_limit = queue_limit
        self._batch_limit = BATCH_LIMIT
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._first_backoff_s = first_backoff_s
        self._backoff_s = first_backoff_s
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Events that wait for an answer."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to register and send."""
        if self._url:
            self._task = asyncio.create_task(self._run())

    def put(self, event: Event) -> None:
        """Queue an event; never waits, never raises."""
        if not self._url:
            return
        if len(self._queue) >= self._queue_limit:
            self._queue.popleft()
            self.counters.dropped += 1
        self._queue.append(event)
        self._wake.set()

    def register(self, path: str, body: object) -> None:
        """Tell Tollwatch, before the next event, to PUT `body` at `path`; only the newest body of a path counts."""
        if self._url:
            self._untold[path] = body
            self._latest = {path: body}
            self._wake.set()

    async def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Send what waits, for at most `timeout_s`; what is left counts as dropped."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.counters.dropped += len(self._queue)
        self._queue.clear()

    async def _run(self) -> None:
        async with http_client(REQUEST_TIMEOUT_S, self._headers) as http:
            farewells = 0
            while (self._queue or self._untold or not self._closing.is_set()) and farewells < FAREWELLS:
                try:
                    await self._advance(http)
                    self._backoff_s = self._first_backoff_s
                except (TryLater, httpx.HTTPError) as exc:
                    farewells += self._closing.is_set()
                    await self._wait(exc)

    async def _advance(self, http: httpx.AsyncClient) -> None:
        """Do the next thing: register, wait for events, or send a batch."""
        if self._untold:
            await self._register(http, next(iter(self._untold)))
        elif not self._queue:
            self._wake.clear()
            await self._wake.wait()
            if not self._closing.is_set():
                await asyncio.sleep(LINGER_S)
        else:
            await self._send(http)

    async def _register(self, http: httpx.AsyncClient, path: str) -> None:
        body = self._untold[path]
        response = await http.put(self._url + path, content=msgspec.json.encode(body))
        status = response.status_code
        if 400 <= status < 500 and path not in self._registrations and status not in _NOT_NOW:
            self.counters.unregistered[f"http_{status}"] += 1
        elif not response.is_success:
            raise TryLater(f"PUT {path} got {status}", _retry_after(response))
        if self._untold[path] is body:
            del self._untold[path]

    async def _send(self, http: httpx.AsyncClient) -> None:
        """Send the oldest events; they leave the queue only with an answer, and go again with the same ids."""
        batch = [self._queue[at] for at in range(min(self._batch_limit, len(self._queue)))]
        response = await http.post(f"{self._url}/v1/events", content=msgspec.json.encode(batch))
        if response.status_code in _REFUSED:
            self._refused(batch, response.status_code)
            return
        if not response.is_success:
            raise TryLater(f"POST /v1/events got {response.status_code}", _retry_after(response))
        self._settle(batch, _read_answer(response))

    def _refused(self, batch: list[Event], status: int) -> None:
        """The body as a whole was refused: halve it to find the culprit, which alone is given up."""
        if len(batch) > 1:
            self._batch_limit = len(batch) // 2
            return
        self._batch_limit = BATCH_LIMIT
        self._reject(f"http_{status}", "the body was refused")
        self._take(batch)

    def _settle(self, batch: list[Event], answer: dict[str, object]) -> None:
        rejected = answer.get("rejected")
        for one in rejected if isinstance(rejected, list) else []:
            code = str(one.get("code"))
            self._reject(code, str(one.get("message")))
            if code == "unknown_agent":
                self._untold = {**self._registrations, **self._latest, **self._untold}
        self.counters.accepted += _count(answer.get("accepted"))
        self.counters.duplicates += _count(answer.get("duplicates"))
        self._take(batch)

    def _take(self, batch: list[Event]) -> None:
        """Remove answered events: those still queued, since a full queue may have dropped some meanwhile."""
        answered = {event["id"] for event in batch}
        while self._queue and self._queue[0]["id"] in answered:
            self._queue.popleft()
        self.counters.sent += len(batch)

    def _reject(self, code: str, message: str) -> None:
        if code not in self.counters.rejected:
            log.warning("tollwatch_rejected code=%s message=%s", code, message)
        self.counters.rejected[code] += 1

    async def _wait(self, error: Exception) -> None:
        """Back off, with jitter so that agents do not return together; a reporter that closes tries faster."""
        asked = error.after_s if isinstance(error, TryLater) else None
        jittered = self._backoff_s * random.uniform(0.5, 1.5)  # noqa: S311
        self._backoff_s = min(self._backoff_s * 2, MAX_BACKOFF_S)
        self._lament(error)
        try:
            delay = min(asked if asked is not None else jittered, MAX_BACKOFF_S)
            await asyncio.wait_for(self._closing.wait(), delay)
            await asyncio.sleep(self._first_backoff_s)
        except TimeoutError:
            return

    def _lament(self, error: Exception) -> None:
        """Log an answer that somebody should look into, once; that nobody answers yet is no news."""
        trouble = str(error) if isinstance(error, TryLater) else ""
        if trouble and trouble != self._trouble:
            log.warning("tollwatch_does_not_take_it error=%s", trouble)
        self._trouble = trouble


def _read_answer(response: httpx.Response) -> dict[str, object]:
    try:
        answer = msgspec.json.decode(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answer = None
    if not isinstance(answer, dict):
        raise TryLater("POST /v1/events got an answer that is no object")
    return answer


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _retry_after(response: httpx.Response) -> float | None:
    header = response.headers.get("Retry-After", "")
    return float(header) if header.isdigit() else None
