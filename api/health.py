"""`/healthz` and `/readyz`: is the process there, and can it do its work."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from api.dependencies import AppState, State
from api.problems import Problem, documented
from store.engine import reading
from store.errors import DatabaseError, DatabaseUnavailable
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


@router.get("/readyz", responses=documented(422, 503))
async def readyz(
    held: State,
    for_: Annotated[
        Literal["all", "ingest"],
        Query(alias="for", description="`ingest`: while the database is away, room on the spool is enough"),
    ] = "all",
) -> dict[str, Any]:
    """The database answers, its schema is the one that this code knows, and the spool is within its limits."""
    spool = await _spool_state(held)
    try:
        async with asyncio.timeout(READY_S):
            found = await _revision(held)
    except (DatabaseError, TimeoutError) as exc:
        if for_ == "ingest":
            return {"status": "spooling", "edition": held.edition.value, "spool": spool}
        detail = f"the database does not answer in time; accepted events go to the spool, which holds {spool['events']}"
        raise Problem(503, "database_unavailable", detail, _RETRY) from exc
    if found != _head():
        detail = f"the schema is at revision {found} and this process needs {_head()}; run `tollwatch migrate`, restart"
        raise Problem(503, "schema_mismatch", detail, _RETRY)
    return {"status": "ready", "edition": held.edition.value, "spool": spool}


async def _revision(held: AppState) -> str | None:
    """The schema's revision. Raises DatabaseError, at once while the database is known to be away."""
    if held.presence.is_away:
        raise DatabaseUnavailable
    async with reading(held.engine) as connection:
        return await revision_of(connection)


async def _spool_state(held: AppState) -> dict[str, float]:
    """What the spool holds. Raises Problem: it takes no more, or holds something for too long."""
    try:
        status = await held.spool.status()
    except OSError as exc:
        detail = f"the spool's folder cannot be read ({exc.strerror or exc}); check TOLLWATCH_SPOOL"
        raise Problem(503, "spool_unreadable", detail, _RETRY) from exc
    if status.refusal is not None or not status.has_room:
        detail = (
            status.refusal or "the spool has no room for one more segment; free its disk or raise TOLLWATCH_SPOOL_MAX"
        )
        raise Problem(503, "spool_full", detail, _RETRY)
    longest = held.settings.spool_max_age.total_seconds()
    if status.oldest_age_s > longest:
        detail = (
            f"accepted events wait on the spool for {status.oldest_age_s:.0f} s, longer than TOLLWATCH_SPOOL_MAX_AGE "
            f"({longest:.0f} s); the log says why they are not drained"
        )
        raise Problem(503, "spool_too_old", detail, _RETRY)
    return {"events": status.events, "bytes": status.bytes, "oldest_age_s": round(status.oldest_age_s, 3)}
