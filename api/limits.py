"""What one process lets in: how fast a key may send, how much is done at once, how much is held in memory.

In this order, the cheapest first, so that what is refused costs little:

    the key (a cache) → its debts (no body is read) → a turn → room for the body → the body → its events → storing

Rates have debt (store.rates): whoever owes nothing may send, and owes what it sent. Bytes are charged as sent, before
they are read where Content-Length tells; events when they are counted, before any is looked up or stored. What was
charged stays charged when the request is then refused. All of this is of one process: n processes let in n times that.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.metrics import LimitMetrics
from api.problems import Problem
from store.aged_cache import AgedCache, Clock, utc_now
from store.deadlines import Deadlines
from store.logs import event
from store.rates import Buckets
from store.settings import Settings

MAX_BUCKETS = 10_000
"""Keys whose rates are remembered; the one not heard of for longest begins with a full burst again."""
BUSY_RETRY_S = 1
STEP = 256 * 1024
"""Bytes of memory that a body of unknown length asks for at a time."""
TOLD_EVERY = timedelta(minutes=1)
KEY_LIMITED = "key_limited"

_TICKET = "tollwatch.ticket"
_log = logging.getLogger(__name__)


class Sender(Protocol):
    """Whose request it is, and the limits of its key; None: the default."""

    @property
    def key_id(self) -> int | None:
        """None: the sandbox's own key."""
        ...

    @property
    def key_prefix(self) -> str:
        """Names the key in the log."""
        ...

    @property
    def events_per_s(self) -> int | None:
        """None: the default."""
        ...

    @property
    def bytes_per_s(self) -> int | None:
        """None: the default."""
        ...


@dataclass(slots=True, eq=False)
class Ticket:
    """What one request holds until its end."""

    limits: Limits | None = None
    sender: Sender | None = None
    turns: int = 0
    octets: int = 0
    entered: bool = False


class Full(Exception):
    """There was no room in time. `by_key`: only for this key."""

    def __init__(self, *, by_key: bool) -> None:
        super().__init__()
        self.by_key = by_key


@dataclass(slots=True, eq=False)
class _Waiter:
    key: int | None
    amount: int
    turn: asyncio.Future[None]


@dataclass(kw_only=True)
class Shared:
    """So much of something at once, and so much of it for one key. First come, first served."""

    total: int
    share: int
    used: int = 0
    _by_key: dict[int | None, int] = field(default_factory=dict)
    _waiting: deque[_Waiter] = field(default_factory=deque)

    async def take(self, key: int | None, amount: int, seconds: float) -> None:
        """Wait for `amount` and hold it. What is more than there is waits until there is nothing else. Raises Full."""
        if not self._waiting and self.fits(key, amount):
            self._hold(key, amount)
            return
        waiter = _Waiter(key, amount, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._let_in()
        try:
            await asyncio.wait([waiter.turn], timeout=seconds)
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        if not waiter.turn.done():
            self._leave(waiter)
            raise Full(by_key=not self._fits_share(key, amount))

    def take_now(self, key: int | None, amount: int) -> None:
        """Hold more, without waiting: who holds some already must not wait for others who do. Raises Full."""
        if not self.fits(key, amount):
            raise Full(by_key=not self._fits_share(key, amount))
        self._hold(key, amount)

    def give_back(self, key: int | None, amount: int) -> None:
        """Hold that much less."""
        self.used -= amount
        left = self._by_key.get(key, 0) - amount
        if left > 0:
            self._by_key[key] = left
        else:
            self._by_key.pop(key, None)
        self._let_in()

    def fits(self, key: int | None, amount: int) -> bool:
        """Whether there is room for it now, leaving aside who waits."""
        return self._fits_total(amount) and self._fits_share(key, amount)

    def _fits_total(self, amount: int) -> bool:
        return self.used + amount <= self.total or self.used == 0

    def _fits_share(self, key: int | None, amount: int) -> bool:
        mine = self._by_key.get(key, 0)
        return mine + amount <= self.share or mine == 0

    def _hold(self, key: int | None, amount: int) -> None:
        self.used += amount
        self._by_key[key] = self._by_key.get(key, 0) + amount

    def _let_in(self) -> None:
        """Everyone whose turn it is. A key that waits for its own share holds up nobody else; nobody overtakes."""
        left: deque[_Waiter] = deque()
        while self._waiting:
            waiter = self._waiting.popleft()
            if waiter.turn.done():
                continue
            if not self._fits_share(waiter.key, waiter.amount):
                left.append(waiter)
            elif self._fits_total(waiter.amount):
                self._hold(waiter.key, waiter.amount)
                waiter.turn.set_result(None)
            else:
                left.append(waiter)
                break
        left.extend(self._waiting)
        self._waiting = left

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.turn.done():
            self.give_back(waiter.key, waiter.amount)
            return
        self._waiting.remove(waiter)
        self._let_in()


class Limits:
    """The limits of one process."""

    def __init__(
        self,
        settings: Settings,
        deadlines: Deadlines,
        metrics: LimitMetrics,
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._burst_s = settings.key_burst.total_seconds()
        self._seconds = deadlines.admission
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._events: Buckets[int | None] = Buckets(MAX_BUCKETS)
        self._octets: Buckets[int | None] = Buckets(MAX_BUCKETS)
        self._told: AgedCache[int | None, bool] = AgedCache(MAX_BUCKETS)
        self.turns = Shared(total=settings.max_requests, share=settings.max_requests_per_key)
        self.bodies = Shared(total=settings.body_memory, share=settings.body_memory // 2)
        metrics.watch(in_flight=lambda: self.turns.used, body_bytes=lambda: self.bodies.used)

    def admit(self, sender: Sender, *, events: int | None = None, octets: int | None = None) -> None:
        """Charge a key. None: not spoken of; 0: charges nothing, but refused while the key owes. Raises Problem 429."""
        rates = (
            ("events", self._events, sender.events_per_s, self._settings.key_events_per_s, events),
            ("bytes", self._octets, sender.bytes_per_s, self._settings.key_bytes_per_s, octets),
        )
        now = self._monotonic()
        for what, buckets, own, default, amount in rates:
            rate = default if own is None else own
            if amount is not None and (wait := buckets.wait(sender.key_id, rate, rate * self._burst_s, now)) > 0:
                self._tell(sender, what)
                raise self._refused(429, f"{what}_rate", f"this key may send {rate} {what} a second", math.ceil(wait))
        for _, buckets, own, default, amount in rates:
            if amount:
                rate = default if own is None else own
                buckets.take(sender.key_id, amount, rate, rate * self._burst_s, now)

    async def enter(self, scope: Scope, sender: Sender) -> None:
        """Wait for this request's turn, which it keeps until its end. Problems: 429, the key's turns are taken; 503."""
        ticket = ticket_of(scope)
        if ticket.entered:
            return
        ticket.limits, ticket.sender, ticket.entered = self, sender, True
        try:
            await self.turns.take(sender.key_id, 1, self._seconds)
        except Full as exc:
            if exc.by_key:
                detail = f"this key has {self.turns.share} requests at work already; ask fewer at once"
                raise self._refused(429, "too_many_requests", detail, BUSY_RETRY_S) from exc
            detail = f"{self.turns.total} requests are at work already; nothing was stored, try again"
            raise self._refused(503, "busy", detail, BUSY_RETRY_S) from exc
        ticket.turns = 1

    async def hold(self, scope: Scope, octets: int) -> None:
        """Wait for room in memory for a body; the request keeps it until its end. Problems: 429, 503."""
        ticket = ticket_of(scope)
        key = None if ticket.sender is None else ticket.sender.key_id
        try:
            await self.bodies.take(key, octets, self._seconds)
        except Full as exc:
            raise self._no_room(exc) from exc
        ticket.limits = self
        ticket.octets += octets

    def hold_more(self, scope: Scope, octets: int) -> None:
        """Make sure that `octets` in all are held, without waiting. Problems: 429, 503."""
        ticket = ticket_of(scope)
        ticket.limits = self
        missing = octets - ticket.octets
        if missing <= 0:
            return
        missing = -(-missing // STEP) * STEP
        key = None if ticket.sender is None else ticket.sender.key_id
        try:
            self.bodies.take_now(key, missing)
        except Full as exc:
            raise self._no_room(exc) from exc
        ticket.octets += missing

    def end_turn(self, scope: Scope) -> None:
        """Give a turn back before the request ends: it goes on, bounded otherwise, as streams do."""
        ticket = ticket_of(scope)
        if ticket.turns and ticket.sender is not None:
            self.turns.give_back(ticket.sender.key_id, ticket.turns)
            ticket.turns = 0

    def end(self, scope: Scope) -> None:
        """Give back all that a request held."""
        self.end_turn(scope)
        ticket = ticket_of(scope)
        if ticket.octets:
            self.bodies.give_back(None if ticket.sender is None else ticket.sender.key_id, ticket.octets)
            ticket.octets = 0

    def _no_room(self, full: Full) -> Problem:
        if full.by_key:
            detail = "the bodies that this key sends fill its half of the memory for bodies; send fewer at once"
            return self._refused(429, "too_many_bytes_at_once", detail, BUSY_RETRY_S)
        detail = "bodies fill the memory that is for them; nothing was stored, try again"
        return self._refused(503, "no_room", detail, BUSY_RETRY_S)

    def _refused(self, status: int, reason: str, detail: str, seconds: int) -> Problem:
        self._metrics.refused(reason)
        if status == 429 and reason.endswith("_rate"):
            detail += f"; nothing was stored, try again in {seconds} s"
        return Problem(status, reason, detail, {"Retry-After": str(seconds)})

    def _tell(self, sender: Sender, what: str) -> None:
        """Log which key is limited, once a minute each."""
        now = self._clock()
        if not self._told.get(sender.key_id, now, TOLD_EVERY):
            self._told.put(sender.key_id, True, now)
            event(_log, logging.WARNING, KEY_LIMITED, prefix=sender.key_prefix, limit=what)


def ticket_of(scope: Scope) -> Ticket:
    """What this request holds."""
    ticket: Ticket | None = scope.get(_TICKET)
    if ticket is None:
        ticket = scope[_TICKET] = Ticket()
    return ticket


class Tickets:
    """The outermost layer: whatever a request holds is given back at its end, however it ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and give back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ticket = scope[_TICKET] = Ticket()
        try:
            await self._app(scope, receive, send)
        finally:
            if ticket.limits is not None:
                ticket.limits.end(scope)


def install(app: FastAPI) -> None:
    """Give back what requests hold."""
    app.add_middleware(Tickets)
