"""`/healthz` and `/readyz`: is the process there, and can it do its work."""

from __future__ import annotations

import asyncio
from functools import cache

from fastapi import APIRouter

from api.dependencies import State
from api.problems import Problem, documented
from store.engine import reading
from store.errors import DatabaseError
from store.migrate import head, revision_of

READY_S = 2.0
"""Seconds in which the database must answer /readyz."""

_RETRY = {"Retry-After": "2"}

router = APIRouter(tags=["health"])
_head = cache(head)  # reading the revisions' files takes far longer than asking the database


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Says nothing about the database."""
    return {"status": "ok"}


@router.get("/readyz", responses=documented(503))
async def readyz(held: State) -> dict[str, str]:
    """The database answers, and its schema is the one that this code knows."""
    try:
        async with asyncio.timeout(READY_S), reading(held.engine) as connection:
            found = await revision_of(connection)
    except (DatabaseError, TimeoutError) as exc:
        raise Problem(503, "database_unavailable", "the database does not answer in time", _RETRY) from exc
    if found != _head():
        detail = f"the schema is at revision {found} and this process needs {_head()}; run `tollwatch migrate`, restart"
        raise Problem(503, "schema_mismatch", detail, _RETRY)
    return {"status": "ready", "edition": held.edition.value}
