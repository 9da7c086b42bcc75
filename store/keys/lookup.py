"""Looks keys up. While the database answers, what is known of a key is at most FRESH old, so a revoked key stops within
5 s; while it does not, at most STALE: a key that is revoked while this process cannot hear of it works until then.

A key is found by the SHA-256 of its text, so how long the look-up takes tells of the digest at most, and who could
choose digests to learn from that could find preimages of SHA-256. What comes back is compared in constant time.

A key that this process has not seen costs a query. Guessing is bounded three times: a negative cache that is apart from
the known keys, LANES queries at a time, so that guesses cannot take the pool from known keys, and a rate per address,
whose excess is refused unasked. Known keys pass all three.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from store.aged_cache import AgedCache, Clock, utc_now
from store.deadlines import Deadlines
from store.engine import reading, writing
from store.errors import DatabaseError, DatabaseTimeout, DatabaseUnavailable, TollwatchError
from store.logs import event
from store.named_sql import query
from store.presence import Presence
from store.rates import Buckets

FRESH = timedelta(seconds=4)
"""A second less than a revoked key may go on, for the reading under way."""
STALE = timedelta(minutes=5)
UNKNOWN = timedelta(seconds=2)
"""How long a key that is not there is remembered as such."""
TOUCH_EVERY = timedelta(minutes=1)
MAX_KEYS = 10_000
MAX_UNKNOWN = 10_000
MAX_ADDRESSES = 10_000
LANES = 2
"""Queries for keys not seen before, at a time."""
GUESS_BURST_S = 10
"""Seconds' worth of guesses that an address may make at once."""

KEY_NOT_TOUCHED = "key_not_touched"
KEYS_FROM_CACHE = "keys_from_cache"

_FORM = re.compile(r"tw_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}")
_log = logging.getLogger(__name__)


class TooManyGuesses(TollwatchError):
    """Too many keys from this address do not exist; wait, and use one that does."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = math.ceil(seconds)


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key that exists; `refusal` says whether it still opens anything."""

    id: int
    project_id: int
    project_name: str
    prefix: str
    name: str
    hash: bytes
    scopes: frozenset[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    events_per_s: int | None
    bytes_per_s: int | None

    def refusal(self, now: datetime) -> str | None:
        """Why the key does not work (any more); None: it works."""
        if self.revoked_at is not None:
            return "this key was revoked; use another one"
        if self.expires_at is not None and self.expires_at <= now:
            return "this key has expired; use another one"
        return None


class Keys:
    """Looks keys up. One per process; `close` it before the engine."""

    def __init__(
        self,
        engine: AsyncEngine,
        deadlines: Deadlines,
        clock: Clock = utc_now,
        *,
        presence: Presence | None = None,
        guesses_per_s: float = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """guesses_per_s: keys that do not exist, of one address; 0: any number."""
        self._engine = engine
        self._deadline = deadlines.read_statement
        self._patience = deadlines.cached_look_up
        self._presence = presence or Presence(clock)
        self._clock = clock
        self._monotonic = monotonic
        self._known: AgedCache[bytes, Key] = AgedCache(MAX_KEYS)
        # Apart from the known ones, so that guesses cannot push those out.
        self._unknown: AgedCache[bytes, bool] = AgedCache(MAX_UNKNOWN)
        self._touched: AgedCache[int, bool] = AgedCache(MAX_KEYS)
        self._guesses: Buckets[str] = Buckets(MAX_ADDRESSES)
        self._guess_rate = (guesses_per_s, guesses_per_s * GUESS_BURST_S)
        self._lanes = asyncio.Semaphore(LANES)
        self._reading: dict[bytes, asyncio.Task[Key | None]] = {}
        self._to_touch: set[int] = set()
        self._touching: asyncio.Task[None] | None = None

    async def find(self, key_text: str, address: str = "") -> Key | None:
        """The key, working or not; None: there is none. `address` is who asks.

        Raises DatabaseError (not to be had, and not in the cache) and TooManyGuesses.
        """
        if not _FORM.fullmatch(key_text):
            return None
        digest = hashlib.sha256(key_text.encode()).digest()
        now = self._clock()
        key = self._known.get(digest, now, self._max_age())
        if key is not None:
            return key
        if digest in self._known:
            return await self._look_up(digest)
        return await self._look_up_stranger(digest, guesser(address))

    async def _look_up_stranger(self, digest: bytes, who: str) -> Key | None:
        wait = self._guesses.wait(who, *self._guess_rate, self._monotonic())
        if wait > 0:
            raise TooManyGuesses(wait)
        key = None
        if not self._unknown.get(digest, self._clock(), UNKNOWN):
            key = await self._look_up(digest)
        if key is None:
            self._guesses.take(who, 1, *self._guess_rate, self._monotonic())
        return key

    async def _look_up(self, digest: bytes) -> Key | None:
        try:
            return await self._ask(digest)
        except DatabaseError as exc:
            return self._from_cache(digest, exc)

    async def _ask(self, digest: bytes) -> Key | None:
        if self._presence.is_away:
            raise DatabaseUnavailable
        question = self._read_once(digest)
        if self._known.get(digest, self._clock(), STALE) is None:
            # Guesses wait for each other: how long says nothing about the database, and must not make known keys stale.
            return await asyncio.shield(question)
        return await self._presence.ask(question, self._patience)

    def forget(self, prefix: str) -> None:
        """Read a key again before it is used again: it was changed here."""
        for digest, key in self._known.items():
            if key.prefix == prefix:
                self._known.drop(digest)
                return

    def touch(self, key: Key) -> None:
        """Note that the key was used. Returns at once; the database hears of it in the background."""
        now = self._clock()
        if self._touched.get(key.id, now, TOUCH_EVERY):
            return
        self._touched.put(key.id, True, now)
        self._to_touch.add(key.id)
        if self._touching is None or self._touching.done():
            self._touching = asyncio.create_task(self._touch_all())

    async def close(self) -> None:
        """Wait for the work in hand, within its deadline. Cancelling it could leave a half-open connection behind."""
        under_way: list[asyncio.Task[Key | None] | asyncio.Task[None]] = [*self._reading.values()]
        if self._touching is not None:
            under_way.append(self._touching)
        if under_way:
            await asyncio.wait(under_way, timeout=self._deadline)

    def _max_age(self) -> timedelta:
        return STALE if self._presence.is_away else FRESH

    def _from_cache(self, digest: bytes, cause: DatabaseError) -> Key:
        key = self._known.get(digest, self._clock(), STALE)
        if key is None:
            raise cause
        event(_log, logging.WARNING, KEYS_FROM_CACHE, error=cause)
        return key

    def _read_once(self, digest: bytes) -> asyncio.Task[Key | None]:
        """One look-up per key at a time, however many requests wait for it."""
        task = self._reading.get(digest)
        if task is None:
            task = self._reading[digest] = asyncio.create_task(self._read(digest))
            task.add_done_callback(lambda done: self._forget(digest, done))
        return task

    def _forget(self, digest: bytes, done: asyncio.Task[Key | None]) -> None:
        self._reading.pop(digest, None)
        if not done.cancelled():
            done.exception()  # retrieved, also when every request that waited has gone

    async def _read(self, digest: bytes) -> Key | None:
        try:
            async with asyncio.timeout(self._deadline):
                if digest in self._known:
                    read_at, row = await self._row(digest)
                else:
                    async with self._lanes:
                        read_at, row = await self._row(digest)
        except TimeoutError as exc:
            raise DatabaseTimeout from exc
        if row is None or not hmac.compare_digest(row["hash"], digest):
            self._known.drop(digest)
            self._unknown.put(digest, True, read_at)
            return None
        key = Key(**{**row, "scopes": frozenset(row["scopes"])})
        self._known.put(digest, key, read_at)
        return key

    async def _row(self, digest: bytes) -> tuple[datetime, RowMapping | None]:
        """When it was asked for, and the key's row."""
        read_at = self._clock()
        async with reading(self._engine) as connection:
            return read_at, (
                await connection.execute(text(query("key_by_hash")), {"hash": digest})
            ).mappings().one_or_none()

    async def _touch_all(self) -> None:
        while self._to_touch:
            ids, self._to_touch = sorted(self._to_touch), set()
            try:
                async with asyncio.timeout(self._deadline), writing(self._engine) as connection:
                    await connection.execute(text(query("touch_keys")), {"ids": ids})
            except (DatabaseError, TimeoutError) as exc:
                event(_log, logging.DEBUG, KEY_NOT_TOUCHED, keys=len(ids), error=exc)


def guesser(address: str) -> str:
    """Whose guesses count together: one IPv4 address, or a network of IPv6 (/64), which one host can have whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
