"""What routes depend on: the state of the process, and the caller that a key stands for."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from api.keeper import Keeper
from api.limits import Limits
from api.metrics import IngestMetrics, LimitMetrics
from api.problems import Problem
from store.aged_cache import Clock
from store.deadlines import Deadlines
from store.directory import Directory
from store.edition import Edition
from store.keys import Key, Keys, TooManyGuesses
from store.presence import Presence
from store.settings import SANDBOX_KEY, SANDBOX_PROJECT, Settings
from store.spool.appender import Spool
from store.tables import SCOPES

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="tollwatch"'}
_bearer = HTTPBearer(auto_error=False, description="A key: `tw_…`, or `tollwatch-dev` while the sandbox runs")


@dataclass(frozen=True, kw_only=True)
class AppState:
    """What the process holds open, made by the lifespan of `api.app`."""

    settings: Settings
    deadlines: Deadlines
    engine: AsyncEngine
    edition: Edition
    directory: Directory
    keys: Keys
    keeper: Keeper
    spool: Spool
    presence: Presence
    registry: CollectorRegistry
    ingest_metrics: IngestMetrics
    limit_metrics: LimitMetrics
    limits: Limits
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose request it is. key_id None: the sandbox's own key."""

    project_id: int
    project_name: str
    key_id: int | None
    scopes: frozenset[str]
    key_prefix: str = SANDBOX_KEY
    key_name: str = ""
    expires_at: datetime | None = None
    events_per_s: int | None = None
    bytes_per_s: int | None = None


async def state(request: Request) -> AppState:
    """The state of the process that serves this request. (What is not async, FastAPI hands to a thread each time.)"""
    held: AppState = request.app.state.tollwatch
    return held


State = Annotated[AppState, Depends(state)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def authorize(*scopes: str, sends_events: bool = False) -> Callable[..., Awaitable[Caller]]:
    """A dependency that returns the Caller if the key has one of these scopes, is within its rates, and has its turn.

    Problems: 401, 403, 429, 503. No byte of the body is read before.
    """

    async def caller_with_scope(request: Request, held: State, credentials: Credentials) -> Caller:
        caller = await identify(request, held, credentials)
        if caller.scopes.isdisjoint(scopes):
            wanted = " or ".join(f"`{scope}`" for scope in scopes)
            held.limit_metrics.auth_refused("scope")
            raise Problem(403, "missing_scope", f"this key lacks the scope {wanted}")
        held.limits.admit(caller, octets=declared_octets(request, held.settings), events=0 if sends_events else None)
        await held.limits.enter(request.scope, caller)
        return caller

    return caller_with_scope


def declared_octets(request: Request, settings: Settings) -> int | None:
    """Bytes of the body that is announced, as far as they may be read; 0: of unknown length; None: no body."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit():
        return min(int(length[:12]), settings.max_body) or None
    return 0 if "transfer-encoding" in request.headers else None


async def identify(request: Request, held: AppState, credentials: HTTPAuthorizationCredentials | None) -> Caller:
    """The caller behind an Authorization header, whatever its scopes. Raises Problem 401; DatabaseError."""
    if credentials is None:
        raise _unauthorized(held, "missing", "send `Authorization: Bearer <key>`")
    if credentials.credentials == SANDBOX_KEY:
        return await _sandbox_caller(request, held)
    key = await _find(request, held, credentials.credentials)
    if key is None:
        raise _unauthorized(held, "unknown", "there is no such key")
    refusal = key.refusal(held.clock())
    if refusal is not None:
        raise _unauthorized(held, "revoked" if key.revoked_at is not None else "expired", refusal)
    held.keys.touch(key)
    return Caller(
        project_id=key.project_id,
        project_name=key.project_name,
        key_id=key.id,
        scopes=key.scopes,
        key_prefix=key.prefix,
        key_name=key.name,
        expires_at=key.expires_at,
        events_per_s=key.events_per_s,
        bytes_per_s=key.bytes_per_s,
    )


async def _find(request: Request, held: AppState, key_text: str) -> Key | None:
    address = "" if request.client is None else request.client.host
    try:
        return await held.keys.find(key_text, address)
    except TooManyGuesses as exc:
        held.limit_metrics.auth_refused("guesses")
        raise Problem(429, "too_many_guesses", str(exc), {"Retry-After": str(exc.seconds)}) from exc


async def _sandbox_caller(request: Request, held: AppState) -> Caller:
    if not held.settings.sandbox:
        raise _unauthorized(held, "unknown", f"the key {SANDBOX_KEY} works only while the sandbox runs")
    if not from_loopback(request):
        raise _unauthorized(
            held,
            "unknown",
            f"the key {SANDBOX_KEY} works only for a loopback Host and Origin, such as http://127.0.0.1",
        )
    project_id = await held.directory.project_id(SANDBOX_PROJECT)
    return Caller(project_id=project_id, project_name=SANDBOX_PROJECT, key_id=None, scopes=frozenset(SCOPES))


def from_loopback(request: Request) -> bool:
    """Whether Host and, where there is one, Origin name this machine: a page from elsewhere cannot claim that."""
    origin = request.headers.get("origin")
    return _is_loopback("//" + request.headers.get("host", "")) and (origin is None or _is_loopback(origin))


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unauthorized(held: AppState, reason: str, detail: str) -> Problem:
    held.limit_metrics.auth_refused(reason)
    return Problem(401, "missing_key" if reason == "missing" else "invalid_key", detail, _CHALLENGE)
