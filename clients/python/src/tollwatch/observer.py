"""What the transports see, made into attempts and payments. No I/O here, and nothing that depends on sync or async.

    begin(request) ─► Exchange ─► answered(response) ─► chunk… ─► ended
                              └─► lost(error)

A challenge and its payment are two requests to a transport. They are one attempt when the paid request carries the
challenge's extension (the x402 SDK copies it), or comes from the same `Call`, or else has the same method, URL
and body, and pays what was asked for.
"""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from tollwatch import x402
from tollwatch.calls import EXTENSION, About, Attempt, Call, PaymentMade, Sink, current_call, kind_of
from tollwatch.events import ErrorType

ATTEMPT = "tollwatch.attempt"
"""The request extension in which a challenge is remembered."""

MAX_WAITING = 1_000
"""Challenges that wait for their payment; beyond, the oldest is told as not paid."""
MAX_WAITING_ALIKE = 16
"""Of these with the same method, URL and body: they are looked through one by one."""
LAPSE_S = 120.0
"""How long one waits: longer than a transaction may be signed and sent."""
MAX_PAYMENTS = 1_000
"""Payment headers remembered, to know one that is sent again."""
MAX_ORIGINS = 1_000
MAX_DIGESTED = 1024**2
"""Bytes of a request's body beyond which it gets no digest."""
MAX_CHALLENGE = 64 * 1024
"""Bytes of a 402's body that are read along, for version 1."""

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

Key = tuple[str, str, str | None]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What is observed. `services` are origins to tell of from the start; others count once they asked for payment."""

    about: About
    services: frozenset[str] = frozenset()
    keep_query: bool = False


class Observer:
    """Follows the requests of one transport. Thread-safe."""

    def __init__(self, sink: Sink, watched: Watched) -> None:
        self._sink = sink
        self._watched = watched
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, tuple[float, Key, Attempt]] = OrderedDict()
        self._by_key: dict[Key, deque[int]] = {}
        self._serial = 0
        self._payments: OrderedDict[str, PaymentMade] = OrderedDict()
        self._origins: OrderedDict[str, None] = OrderedDict.fromkeys(watched.services)
        self._open: weakref.WeakSet[Exchange] = weakref.WeakSet()

    def begin(self, request: httpx.Request) -> Exchange | None:
        """A request is about to leave; None when it is of no interest whatever its answer is."""
        self._lapse(time.monotonic())
        digest = _digest_of(request)
        key = (request.method, str(request.url), digest)
        header = next((request.headers[name] for name in x402.PAYMENT_HEADERS if name in request.headers), None)
        call = request.extensions.get(EXTENSION) or current_call.get()
        paying = x402.paying_of(header) if header is not None else None
        if paying is not None:
            attempt = self._attempt_paid(request, key, call, paying)
        else:
            attempt = (call or Call(self._sink, self._watched.about, loose=True)).for_exchange()
            request.extensions[ATTEMPT] = attempt
        self._describe(attempt, request, digest)
        exchange = Exchange(self, attempt, key)
        if paying is not None:
            exchange.payment = self._pay(attempt, paying)
        return exchange

    def _describe(self, attempt: Attempt, request: httpx.Request, digest: str | None) -> None:
        url = str(request.url)
        attempt.url_service = x402.origin_of(url)
        attempt.url_resource = x402.without_secrets(url, keep_query=self._watched.keep_query)
        attempt.method = request.method
        attempt.request_digest = digest

    def _attempt_paid(self, request: httpx.Request, key: Key, call: Call | None, paying: x402.Paying) -> Attempt:
        """The attempt whose challenge this pays; the next one of its call when that was paid before."""
        before = self._before(request, key, call, paying)
        if before is not None and before.unpaid and not before.told:
            return before
        if before is not None:
            attempt = before.call.for_exchange()
            attempt.terms = attempt.terms or before.terms
            return attempt
        return (call or Call(self._sink, self._watched.about, loose=True)).for_exchange()

    def _before(self, request: httpx.Request, key: Key, call: Call | None, paying: x402.Paying) -> Attempt | None:
        marked = request.extensions.get(ATTEMPT)
        if isinstance(marked, Attempt):
            self._forget(marked)
            return marked
        if call is not None:
            return call.attempt
        with self._lock:
            sent = self._payments.get(paying.digest)
        return sent.attempt if sent is not None else self._take_waiting(key, paying)

    def _pay(self, attempt: Attempt, paying: x402.Paying) -> PaymentMade | None:
        """The payment that leaves with the request; told as pending, or as retrying when it left before."""
        attempt.version = paying.version
        with self._lock:
            payment = self._payments.get(paying.digest)
        if payment is None:
            offer = x402.choose(attempt.terms.offers if attempt.terms else (), paying)
            if offer is None:
                self._sink.skip("payment_without_terms")
                return None
            attempt.payer = x402.payer_of(paying.transaction, offer.fee_payer)
            payment = PaymentMade(attempt, paying, offer)
            attempt.call.payments += 1
            with self._lock:
                self._payments[paying.digest] = payment
                if len(self._payments) > MAX_PAYMENTS:
                    self._payments.popitem(last=False)
        else:
            attempt.payer = payment.attempt.payer
        attempt.payment = payment
        payment.leaves()
        return payment

    # Challenges that wait for their payment

    def wait(self, attempt: Attempt, key: Key) -> None:
        """Hold a challenge until it is paid or lapses."""
        with self._lock:
            self._serial += 1
            self._waiting[self._serial] = (time.monotonic() + LAPSE_S, key, attempt)
            alike = self._by_key.setdefault(key, deque())
            alike.append(self._serial)
            full = [self._pop(alike[0])] if len(alike) > MAX_WAITING_ALIKE else []
            full += [self._pop(next(iter(self._waiting)))] if len(self._waiting) > MAX_WAITING else []
        for unpaid in full:
            unpaid.tell()

    def _take_waiting(self, key: Key, paying: x402.Paying) -> Attempt | None:
        with self._lock:
            serials = self._by_key.get(key, ())
            entries = [(serial, self._waiting[serial][2]) for serial in serials]
            fitting = [serial for serial, attempt in entries if attempt.terms and paying.offer in attempt.terms.offers]
            chosen = next(iter(fitting or serials), None)
            return None if chosen is None else self._pop(chosen)

    def _forget(self, attempt: Attempt) -> None:
        with self._lock:
            serial = next((serial for serial, entry in self._waiting.items() if entry[2] is attempt), None)
            if serial is not None:
                self._pop(serial)

    def _pop(self, serial: int) -> Attempt:
        _, key, attempt = self._waiting.pop(serial)
        self._by_key[key].remove(serial)
        if not self._by_key[key]:
            del self._by_key[key]
        return attempt

    def _tell_oldest(self) -> None:
        with self._lock:
            attempt = self._pop(next(iter(self._waiting))) if self._waiting else None
        if attempt is not None:
            attempt.tell()

    def _lapse(self, now: float) -> None:
        while True:
            with self._lock:
                oldest = next(iter(self._waiting.values()), None)
            if oldest is None or oldest[0] > now:
                return
            self._tell_oldest()

    def look(self, *, last: bool = False) -> None:
        """Tell what has lapsed; with `last` everything, answers that nobody has read to their end included."""
        self._lapse(float("inf") if last else time.monotonic())
        if last:
            for exchange in list(self._open):
                exchange.ended(complete=False)
            self._lapse(float("inf"))

    def forget(self) -> None:
        """In the child of a fork: what waits is the parent's."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._by_key.clear()
        self._open = weakref.WeakSet()

    # Origins

    def pays(self, origin: str) -> None:
        """This origin asks for payment: from now on its other answers are told, too."""
        with self._lock:
            self._origins[origin] = None
            self._origins.move_to_end(origin)
            if len(self._origins) > MAX_ORIGINS:
                self._origins.popitem(last=False)

    def is_paid(self, origin: str) -> bool:
        """Whether it has asked for payment."""
        return origin in self._origins

    def opened(self, exchange: Exchange) -> None:
        """Its answer is being read."""
        with self._lock:
            self._open.add(exchange)

    def closed(self, exchange: Exchange) -> None:
        """It is not any more."""
        with self._lock:
            self._open.discard(exchange)


class Exchange:
    """One request and its answer."""

    def __init__(self, observer: Observer, attempt: Attempt, key: Key) -> None:
        self.payment: PaymentMade | None = None
        self._observer = observer
        self._attempt = attempt
        self._key = key
        self._began = time.monotonic()
        self._hash = hashlib.sha256()
        self._size = 0
        self._kept: bytearray | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._done = False
        attempt.exchange = self
        attempt.status = attempt.response_digest = attempt.response_bytes = None

    def lost(self, error: BaseException) -> None:
        """No answer: if money was sent, nobody here knows what became of it, unless it never left."""
        attempt = self._attempt
        attempt.took(time.monotonic() - self._began)
        kind, text = kind_of(error), x402.without_secrets(f"{type(error).__name__}: {error}")
        attempt.fail(kind, text)
        if self.payment is not None:
            never_sent = isinstance(error, _NEVER_SENT) and self.payment.times_sent == 1
            self.payment.end(
                "failed" if never_sent else "unknown", kind, f"no answer to the paid request: {text}"[:300]
            )
        self._conclude()

    def answered(self, response: httpx.Response) -> bool:
        """The headers are there. Whether the body is to be followed (`chunk`, then `ended`)."""
        attempt, status = self._attempt, response.status_code
        attempt.took(time.monotonic() - self._began)
        terms = x402.terms_of_header(response.headers.get(x402.REQUIRED_HEADER)) if status == 402 else None
        if terms is not None:
            self._challenged(terms)
        if status == 402 and terms is None:
            self._kept = bytearray()
            self._headers = response.headers.raw
        self._settle(response, terms)
        attempt.answered(status)
        if terms is not None and attempt.unpaid:
            self._wait()
        followed = self._interesting or self._kept is not None
        if followed:
            self._observer.opened(self)
        return followed

    @property
    def _interesting(self) -> bool:
        attempt = self._attempt
        return (
            not attempt.call.loose
            or attempt.terms is not None
            or attempt.payment is not None
            or attempt.version is not None
            or self._observer.is_paid(attempt.service)
        )

    def _challenged(self, terms: x402.Terms) -> None:
        self._attempt.terms = self._attempt.terms or terms
        self._attempt.version = terms.version
        self._observer.pays(self._attempt.service)

    def _settle(self, response: httpx.Response, terms: x402.Terms | None) -> None:
        """What the answer says of the payment. A 402 of version 1 says it in its body, which is still to come."""
        payment, status = self.payment, response.status_code
        if payment is None:
            return
        header = next((response.headers[name] for name in x402.SETTLEMENT_HEADERS if name in response.headers), None)
        settlement = x402.settlement_of(header) if header is not None else None
        if settlement is not None:
            payment.claimed(settlement)
            self.payment = None
        elif terms is not None:
            self._refused(terms)
        elif status != 402:
            kind: ErrorType = "upstream_error" if status >= 500 else "other"
            payment.end("unknown", kind, f"the paid request got {status} without a settlement")
            self.payment = None

    def _refused(self, terms: x402.Terms | None) -> None:
        payment, self.payment = self.payment, None
        if payment is not None:
            reason = terms.error if terms is not None else None
            payment.end("failed", x402.error_of(reason), reason)

    def chunk(self, data: bytes) -> None:
        """Some of the body, as it was sent."""
        self._size += len(data)
        self._hash.update(data)
        if self._kept is not None and len(self._kept) < MAX_CHALLENGE:
            self._kept += data

    def broken(self, error: BaseException) -> None:
        """The body broke off."""
        self._attempt.fail(kind_of(error), f"the answer broke off: {type(error).__name__}: {error}")
        self.ended(complete=False)

    def ended(self, *, complete: bool) -> None:
        """The body was read to its end, or closed before."""
        if self._done:
            return
        self._done = True
        self._observer.closed(self)
        attempt = self._attempt
        if attempt.exchange is not self:
            return  # the challenge of what has been paid meanwhile
        if complete:
            attempt.response_digest, attempt.response_bytes = self._hash.hexdigest(), self._size
        if self._kept is not None:
            self._read_challenge(complete=complete)
        if not attempt.unpaid:
            self._conclude()

    def _read_challenge(self, *, complete: bool) -> None:
        """The terms in the body of a 402."""
        terms = _terms_in(self._kept or b"", self._headers) if complete else None
        attempt = self._attempt
        if attempt.told:
            return
        if terms is not None:
            self._challenged(terms)
        if self.payment is not None:
            self._refused(terms)
        attempt.error_type = attempt.reason = None
        attempt.answered(402)
        if attempt.unpaid:
            self._wait()

    def _wait(self) -> None:
        if self._attempt.call.loose:
            self._observer.wait(self._attempt, self._key)

    def _conclude(self) -> None:
        if self._attempt.call.loose and self._interesting:
            self._attempt.tell()


def _digest_of(request: httpx.Request) -> str | None:
    """Of the body, when it is there and no longer than that."""
    try:
        body = request.content
    except httpx.RequestNotRead:
        return None
    return hashlib.sha256(body).hexdigest() if 0 < len(body) <= MAX_DIGESTED else None


def _terms_in(body: bytes | bytearray, headers: list[tuple[bytes, bytes]]) -> x402.Terms | None:
    try:
        return x402.terms_of_body(httpx.Response(402, headers=headers, content=bytes(body)).json())
    except (ValueError, RecursionError, httpx.HTTPError):
        return None


def watched(about: About, services: Iterable[str], *, keep_query: bool) -> Watched:
    """The origins of these URLs, and what is known of them."""
    return Watched(about=about, services=frozenset(map(x402.origin_of, services)), keep_query=keep_query)
