"""How keys come and go. Every change writes its audit event, with its actor, in its own transaction."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import partitions
from store.aged_cache import Clock, utc_now
from store.deadlines import Deadlines
from store.engine import create_engine, reading, wrap_errors
from store.errors import InvalidValue, NotFound
from store.identity import to_milliseconds, uuid7
from store.named_sql import query
from store.redact import redact_text
from store.settings import SANDBOX_PROJECT, Settings
from store.tables import SCOPES

MAX_PROJECT_KEYS = 1_000
"""Keys of a project that are listed, those included that stopped working less than KEEP_DEAD ago."""
MAX_LISTED = 10_000
KEEP_DEAD = timedelta(days=90)
"""How long a key that stopped working is listed; its audit events stay."""
GRACE = timedelta(hours=1)
MAX_GRACE = timedelta(days=30)
MAX_LIFETIME = timedelta(days=3650)
MAX_RATE = 2**31 - 1
MAX_BYTES_RATE = 2**53

_PREFIX_LENGTH = len("tw_") + 8
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALPHABET = string.ascii_letters + string.digits
_T = TypeVar("_T")


class NotRotatable(InvalidValue):
    """The key does not work any more, or was replaced already; rotate the one that works."""


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """What a key is to be. A limit that is None: the process's default."""

    name: str
    scopes: Sequence[str]
    expires_at: datetime | None = None
    events_per_s: int | None = None
    bytes_per_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """All that may be told of a key. replaced_by: the prefix of its successor."""

    project: str
    prefix: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None
    events_per_s: int | None
    bytes_per_s: int | None

    def works(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class KeyChanges:
    """Changes keys on behalf of an actor (`cli:<user>`, `key:<prefix> <name>`). Raises DatabaseError everywhere."""

    def __init__(self, engine: AsyncEngine, actor: str, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._actor = redact_text(actor)[:200]
        self._clock = clock

    async def project(self, name: str) -> int:
        """The id of a project, which is made where there is none."""
        async with self._transaction() as connection:
            await connection.execute(text(query("ensure_project")), {"name": name})
            return int((await connection.execute(text(query("project_id")), {"name": name})).scalar_one())

    async def known_project(self, name: str) -> int:
        """The id of a project. Raises NotFound."""
        async with reading(self._engine) as connection:
            found = (await connection.execute(text(query("project_id")), {"name": name})).scalar_one_or_none()
        if found is None:
            raise NotFound(f"there is no project {name[:100]!r}")
        return int(found)

    async def listed(self, project_id: int | None, prefix: str | None = None) -> list[KeyInfo]:
        """Keys of a project (None: of all), newest first; at most MAX_LISTED."""
        async with reading(self._engine) as connection:
            return await _infos(connection, project_id, prefix)

    async def create(self, project_id: int, asked: NewKey) -> tuple[KeyInfo, str]:
        """Make a key. Returns what may be told of it, and its text, which is stored nowhere. Raises InvalidValue."""
        asked = replace(asked, name=redact_text(asked.name))
        _check(asked, self._clock())

        async def work(connection: AsyncConnection) -> tuple[KeyInfo, str]:
            _, key_text = await self._insert(connection, project_id, asked)
            info = await _info(connection, project_id, key_text[:_PREFIX_LENGTH])
            await self._tell(connection, project_id, "key_created", info)
            return info, key_text

        return await self._in_transaction(work)

    async def revoke(self, project_id: int | None, prefix: str) -> KeyInfo:
        """End a key for good; one that was revoked before stays as it was. Raises NotFound."""

        async def work(connection: AsyncConnection) -> KeyInfo:
            key_id, owner = await _lock(connection, project_id, prefix)
            values = {"id": key_id, "now": self._clock()}
            revoked = (await connection.execute(text(query("revoke_key")), values)).scalar_one_or_none()
            info = await _info(connection, owner, prefix)
            if revoked is not None:
                await self._tell(connection, owner, "key_revoked", info)
            return info

        return await self._in_transaction(work)

    async def rotate(
        self,
        project_id: int | None,
        prefix: str,
        grace: timedelta = GRACE,
        check: Callable[[KeyInfo], None] = lambda _: None,
    ) -> tuple[KeyInfo, KeyInfo, str]:
        """Replace a key by one like it, which lives as long as it was to. Returns the old, the new and its text.

        The old one works for `grace` yet. `check` is told of the new one and may raise. Raises NotFound, NotRotatable.
        """
        if not timedelta(0) <= grace <= MAX_GRACE:
            raise InvalidValue(f"grace must be between nothing and {MAX_GRACE.days} days")

        async def work(connection: AsyncConnection) -> tuple[KeyInfo, KeyInfo, str]:
            key_id, owner = await _lock(connection, project_id, prefix)
            now = self._clock()
            old = await _info(connection, owner, prefix)
            _check_rotatable(old, now)
            new_id, key_text = await self._insert(connection, owner, _successor(old, now))
            values = {"id": key_id, "replaced_by": new_id, "until": now + grace}
            await connection.execute(text(query("replace_key")), values)
            new = await _info(connection, owner, key_text[:_PREFIX_LENGTH])
            check(new)
            old = await _info(connection, owner, prefix)
            await self._tell(connection, owner, "key_rotated", old)
            await self._tell(connection, owner, "key_created", new)
            return old, new, key_text

        return await self._in_transaction(work)

    async def _insert(self, connection: AsyncConnection, project_id: int, asked: NewKey) -> tuple[int, str]:
        now = self._clock()
        values = {"project_id": project_id}
        await connection.execute(text(query("lock_project_keys")), values)
        await connection.execute(text(query("archive_dead_keys")), values | {"before": now - KEEP_DEAD})
        if (await connection.execute(text(query("count_keys")), values)).scalar_one() >= MAX_PROJECT_KEYS:
            raise InvalidValue(f"the project has {MAX_PROJECT_KEYS} keys already; use another project for new ones")
        key_text = new_key_text()
        row = {
            **vars(asked),
            **values,
            "scopes": sorted(set(asked.scopes)),
            "prefix": key_text[:_PREFIX_LENGTH],
            "hash": hashlib.sha256(key_text.encode()).digest(),
            "created_at": now,
            "created_by": self._actor,
        }
        return int((await connection.execute(text(query("insert_key")), row)).scalar_one()), key_text

    async def _tell(self, connection: AsyncConnection, project_id: int, event_type: str, info: KeyInfo) -> None:
        ts = to_milliseconds(self._clock())
        details = {
            "by": self._actor,
            "name": info.name,
            "scopes": list(info.scopes),
            "expires_at": None if info.expires_at is None else info.expires_at.isoformat(),
            "replaced_by": info.replaced_by,
            "events_per_s": info.events_per_s,
            "bytes_per_s": info.bytes_per_s,
        }
        values = {
            "project_id": project_id,
            "ts": ts,
            "id": uuid7(ts),
            "event_type": event_type,
            "entity_id": info.prefix,
            "details": json.dumps({name: value for name, value in details.items() if value is not None}),
        }
        await connection.execute(text(query("insert_key_event")), values)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with wrap_errors():
            async with self._engine.begin() as connection:
                yield connection

    async def _in_transaction(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """What `work` did, committed. Where nobody made the day's partition ahead, it is made, and all done again."""
        with wrap_errors():
            try:
                async with self._engine.begin() as connection:
                    return await work(connection)
            except IntegrityError as exc:
                if not partitions.is_missing(exc):
                    raise
            now = self._clock()
            await partitions.ensure(self._engine, "audit_events", now, now)
            async with self._engine.begin() as connection:
                return await work(connection)


@asynccontextmanager
async def changes_of(settings: Settings, deadlines: Deadlines, actor: str) -> AsyncIterator[KeyChanges]:
    """Changes of keys outside of a server, with a connection of their own. Raises SettingsError."""
    engine = create_engine(settings.required_database_url, deadlines, pool_size=1)
    try:
        yield KeyChanges(engine, actor)
    finally:
        await engine.dispose()


async def create_key(
    settings: Settings,
    *,
    project: str,
    name: str,
    scopes: Sequence[str],
    deadlines: Deadlines,
    actor: str = "cli",
    **more: Any,
) -> str:
    """Make a key, and its project where there is none; `more` are fields of NewKey. Returns the key's text.

    Raises InvalidValue (unknown scope, bad name, the sandbox's project), SettingsError and DatabaseError.
    """
    if not _PROJECT.fullmatch(project):
        raise InvalidValue(f"project {project[:100]!r} must be letters, digits, dots, dashes, 1 to 100 of them")
    if project == SANDBOX_PROJECT and not settings.sandbox:
        raise InvalidValue("the project `sandbox` exists only while the sandbox runs; choose another name")
    asked = NewKey(name=name, scopes=scopes, **more)
    _check(asked, utc_now())
    async with changes_of(settings, deadlines, actor) as changes:
        _, key_text = await changes.create(await changes.project(project), asked)
        return key_text


def new_key_text() -> str:
    """A key that nobody has."""
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return f"tw_{prefix}_{secrets.token_urlsafe(32)}"


def _check(asked: NewKey, now: datetime) -> None:
    if not 0 < len(asked.name) <= 100 or "\0" in asked.name:
        raise InvalidValue("a key needs a name of 1 to 100 characters")
    unknown = [scope for scope in asked.scopes if scope not in SCOPES]
    if unknown or not asked.scopes:
        wrong = f"scope {unknown[0][:50]!r} does not exist" if unknown else "a key needs a scope"
        raise InvalidValue(f"{wrong}; there are {', '.join(SCOPES)}")
    if asked.expires_at is not None and not now < asked.expires_at <= now + MAX_LIFETIME:
        raise InvalidValue(f"a key must expire in the future, within {MAX_LIFETIME.days} days")
    for limit, largest in ((asked.events_per_s, MAX_RATE), (asked.bytes_per_s, MAX_BYTES_RATE)):
        if limit is not None and not 0 < limit <= largest:
            raise InvalidValue(f"a limit must be between 1 and {largest} a second; leave it out for the default")


def _check_rotatable(old: KeyInfo, now: datetime) -> None:
    if old.replaced_by is not None:
        raise NotRotatable(f"the key {old.prefix} was replaced by {old.replaced_by} already; rotate that one")
    if not old.works(now):
        raise NotRotatable(f"the key {old.prefix} does not work any more; create a new one")


def _successor(old: KeyInfo, now: datetime) -> NewKey:
    return NewKey(
        name=old.name,
        scopes=old.scopes,
        expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
        events_per_s=old.events_per_s,
        bytes_per_s=old.bytes_per_s,
    )


async def _lock(connection: AsyncConnection, project_id: int | None, prefix: str) -> tuple[int, int]:
    """(id, project_id) of a key that nobody else changes until the end of the transaction. Raises NotFound."""
    values = {"project_id": project_id, "prefix": prefix}
    row = None if "\0" in prefix else (await connection.execute(text(query("lock_key")), values)).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no key {redact_text(prefix[:_PREFIX_LENGTH])!r}; a key is named by its first 11 characters"
        )
    return row.id, row.project_id


async def _infos(connection: AsyncConnection, project_id: int | None, prefix: str | None) -> list[KeyInfo]:
    if prefix is not None and "\0" in prefix:
        return []
    values = {"project_id": project_id, "prefix": prefix, "limit": MAX_LISTED}
    rows = (await connection.execute(text(query("list_keys")), values)).mappings()
    return [KeyInfo(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]


async def _info(connection: AsyncConnection, project_id: int, prefix: str) -> KeyInfo:
    (found,) = await _infos(connection, project_id, prefix)
    return found
