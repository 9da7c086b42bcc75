"""`/healthz`, `/readyz` and `/`: is the process there, can it do its work, and where is what."""

from __future__ import annotations

import asyncio
import html
from functools import cache

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.dependencies import State
from api.problems import Problem, documented
from store.engine import reading
from store.errors import DatabaseError
from store.migrate import head, revision_of

READY_S = 2.0
"""Seconds in which the database must answer /readyz."""

_RETRY = {"Retry-After": "2"}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tollwatch{mark}</title></head>
<body><h1>Tollwatch{mark}</h1>
<p>The flight recorder for agents that pay.{note}</p>
<ul><li><a href="/docs">/docs</a></li>
<li><a href="/metrics">/metrics</a></li><li><a href="/readyz">/readyz</a></li></ul>
</body></html>
"""

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


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index(held: State) -> str:
    """Where to go from here."""
    sandbox = held.settings.sandbox
    return _PAGE.format(
        mark=html.escape(" (sandbox)" if sandbox else ""),
        note=" All that it shows is the sandbox's: a made-up world, no real money." if sandbox else "",
    )
