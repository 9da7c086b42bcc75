"""What routes depend on: the state of the process, and the caller that a key stands for."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from api.keeper import Keeper
from api.metrics import IngestMetrics
from api.problems import Problem
from store.aged_cache import Clock
from store.deadlines import Deadlines
from store.directory import Directory
from store.edition import Edition
from store.keys import Keys
from store.settings import SANDBOX_KEY, SANDBOX_PROJECT, Settings
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
    registry: CollectorRegistry
    ingest_metrics: IngestMetrics
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose request it is. key_id None: the sandbox's own key."""

    project_id: int
    project_name: str
    key_id: int | None
    scopes: frozenset[str]


def state(request: Request) -> AppState:
    """The state of the process that serves this request."""
    held: AppState = request.app.state.tollwatch
    return held


State = Annotated[AppState, Depends(state)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def authorize(*scopes: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that returns the Caller if the key has one of these scopes. Problems: 401, 403, 503."""

    async def caller_with_scope(request: Request, held: State, credentials: Credentials) -> Caller:
        caller = await identify(request, held, credentials)
        if caller.scopes.isdisjoint(scopes):
            wanted = " or ".join(f"`{scope}`" for scope in scopes)
            raise Problem(403, "missing_scope", f"this key lacks the scope {wanted}")
        return caller

    return caller_with_scope


async def identify(request: Request, held: AppState, credentials: HTTPAuthorizationCredentials | None) -> Caller:
    """The caller behind an Authorization header, whatever its scopes. Raises Problem 401; DatabaseError."""
    if credentials is None:
        raise _unauthorized("missing_key", "send `Authorization: Bearer <key>`")
    if credentials.credentials == SANDBOX_KEY:
        return await _sandbox_caller(request, held)
    key = await held.keys.find(credentials.credentials)
    if key is None:
        raise _unauthorized("invalid_key", "there is no such key")
    refusal = key.refusal(held.clock())
    if refusal is not None:
        raise _unauthorized("invalid_key", refusal)
    held.keys.touch(key)
    return Caller(project_id=key.project_id, project_name=key.project_name, key_id=key.id, scopes=key.scopes)


async def _sandbox_caller(request: Request, held: AppState) -> Caller:
    if not held.settings.sandbox:
        raise _unauthorized("invalid_key", f"the key {SANDBOX_KEY} works only while the sandbox runs")
    if not from_loopback(request):
        raise _unauthorized(
            "invalid_key", f"the key {SANDBOX_KEY} works only for a loopback Host and Origin, such as http://127.0.0.1"
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


def _unauthorized(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, _CHALLENGE)
