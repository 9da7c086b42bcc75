"""API keys: made once, kept as SHA-256, looked up through a cache that outlives a short loss of the database.

A key is `tw_<8 characters>_<43 characters>`; the secret part has 256 bits, so one round of SHA-256 is enough. While the
database answers, what is known of a key is at most FRESH old, so a revoked key stops within 5 s; while it does not, at
most STALE.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from store.aged_cache import AgedCache, Clock, utc_now
from store.deadlines import Deadlines
from store.engine import create_engine, reading, writing
from store.errors import DatabaseError, DatabaseTimeout, InvalidValue
from store.logs import event
from store.named_sql import query
from store.settings import SANDBOX_PROJECT, Settings
from store.tables import SCOPES

FRESH = timedelta(seconds=4)
"""A second less than a revoked key may go on, for the reading under way."""
STALE = timedelta(minutes=5)
UNKNOWN = timedelta(seconds=2)
"""How long a key that is not there is remembered as such."""
AWAY = timedelta(seconds=1)
"""How long a database that did not answer is not asked again, where the cache has an answer."""
TOUCH_EVERY = timedelta(minutes=1)
MAX_KEYS = 10_000
MAX_UNKNOWN = 10_000

KEY_NOT_TOUCHED = "key_not_touched"
KEYS_FROM_CACHE = "keys_from_cache"

_FORM = re.compile(r"tw_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALPHABET = string.ascii_letters + string.digits
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key that exists; `refusal` says whether it still opens anything."""

    id: int
    project_id: int
    project_name: str
    hash: bytes
    scopes: frozenset[str]
    expires_at: datetime | None
    revoked_at: datetime | None

    def refusal(self, now: datetime) -> str | None:
        """Why the key does not work (any more); None: it works."""
        if self.revoked_at is not None:
            return "this key was revoked; use another one"
        if self.expires_at is not None and self.expires_at <= now:
            return "this key has expired; use another one"
        return None


class Keys:
    """Looks keys up. One per process; `close` it before the engine."""

    def __init__(self, engine: AsyncEngine, deadlines: Deadlines, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._deadline = deadlines.read_statement
        self._clock = clock
        self._known: AgedCache[bytes, Key] = AgedCache(MAX_KEYS)
        # Apart from the known ones, so that guesses cannot push those out.
        self._unknown: AgedCache[bytes, bool] = AgedCache(MAX_UNKNOWN)
        self._touched: AgedCache[int, bool] = AgedCache(MAX_KEYS)
        self._reading: dict[bytes, asyncio.Task[Key | None]] = {}
        self._to_touch: set[int] = set()
        self._touching: asyncio.Task[None] | None = None
        self._away_since: datetime | None = None

    async def find(self, key_text: str) -> Key | None:
        """The key, working or not; None: there is none. Raises DatabaseError: not to be had, and not in the cache."""
        if not _FORM.fullmatch(key_text):
            return None
        digest = hashlib.sha256(key_text.encode()).digest()
        now = self._clock()
        key = self._known.get(digest, now, self._max_age(now))
        if key is not None:
            return key
        if self._unknown.get(digest, now, UNKNOWN):
            return None
        try:
            return await asyncio.shield(self._read_once(digest))
        except DatabaseError as exc:
            return self._from_cache(digest, exc)

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
        """Wait for the work in hand, which has deadlines. Cancelling it could leave a half-open connection behind."""
        under_way: list[asyncio.Task[Key | None] | asyncio.Task[None]] = [*self._reading.values()]
        if self._touching is not None:
            under_way.append(self._touching)
        await asyncio.gather(*under_way, return_exceptions=True)

    def _max_age(self, now: datetime) -> timedelta:
        away = self._away_since is not None and timedelta(0) <= now - self._away_since <= AWAY
        return STALE if away else FRESH

    def _from_cache(self, digest: bytes, cause: DatabaseError) -> Key:
        self._away_since = self._clock()
        key = self._known.get(digest, self._away_since, STALE)
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
        read_at = self._clock()
        try:
            async with asyncio.timeout(self._deadline), reading(self._engine) as connection:
                row = (await connection.execute(text(query("key_by_hash")), {"hash": digest})).mappings().one_or_none()
        except TimeoutError as exc:
            raise DatabaseTimeout from exc
        self._away_since = None
        if row is None or not hmac.compare_digest(row["hash"], digest):
            self._known.drop(digest)
            self._unknown.put(digest, True, read_at)
            return None
        key = Key(**{**row, "scopes": frozenset(row["scopes"])})
        self._known.put(digest, key, read_at)
        return key

    async def _touch_all(self) -> None:
        while self._to_touch:
            ids, self._to_touch = sorted(self._to_touch), set()
            try:
                async with asyncio.timeout(self._deadline), writing(self._engine) as connection:
                    await connection.execute(text(query("touch_keys")), {"ids": ids})
            except (DatabaseError, TimeoutError) as exc:
                event(_log, logging.DEBUG, KEY_NOT_TOUCHED, keys=len(ids), error=exc)


def new_key_text() -> str:
    """A key that nobody has."""
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return f"tw_{prefix}_{secrets.token_urlsafe(32)}"


async def create_key(
    settings: Settings, *, project: str, name: str, scopes: Sequence[str], deadlines: Deadlines
) -> str:
    """Make a key, and its project where there is none. Returns the key's text, which is stored nowhere.

    Raises InvalidValue (unknown scope, bad name, the sandbox's project), SettingsError and DatabaseError.
    """
    _check_new(settings, project, name, scopes)
    key_text = new_key_text()
    values = {
        "name": name,
        "prefix": key_text[: len("tw_") + 8],
        "hash": hashlib.sha256(key_text.encode()).digest(),
        "scopes": sorted(set(scopes)),
        "created_by": "cli",
    }
    engine = create_engine(settings.required_database_url, deadlines, pool_size=1)
    try:
        async with writing(engine) as connection:
            await connection.execute(text(query("ensure_project")), {"name": project})
            project_id = (await connection.execute(text(query("project_id")), {"name": project})).scalar_one()
            await connection.execute(text(query("insert_key")), values | {"project_id": project_id})
    finally:
        await engine.dispose()
    return key_text


def _check_new(settings: Settings, project: str, name: str, scopes: Sequence[str]) -> None:
    if not _PROJECT.fullmatch(project):
        raise InvalidValue(f"project {project[:100]!r} must be letters, digits, dots, dashes, 1 to 100 of them")
    if project == SANDBOX_PROJECT and not settings.sandbox:
        raise InvalidValue("the project `sandbox` exists only while the sandbox runs; choose another name")
    if not 0 < len(name) <= 100 or "\0" in name:
        raise InvalidValue("a key needs a name of 1 to 100 characters")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        wrong = f"scope {unknown[0][:50]!r} does not exist" if unknown else "a key needs a scope"
        raise InvalidValue(f"{wrong}; there are {', '.join(SCOPES)}")
