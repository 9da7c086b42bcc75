"""The ledger: first which lines a page has, then the lines."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.named_sql import query
from store.readers.listings import Asked, Listing, Page, read_parts
from store.readers.positions import FactPosition
from store.readers.values_views import TrailKey, TrailLine

AUDIT_TRAIL = Listing(
    query="read_trail_keys",
    row=TrailKey,
    position=FactPosition,
    filters=("agent_id", "kind", "severity", "request_id"),
)
"""The keys alone; `read_trail` reads a page of lines."""


async def read_trail(connection: AsyncConnection, listing: Listing[TrailKey], asked: Asked) -> Page[TrailLine]:
    """Read one page. The lines' times, once known, say where to look around them: both are to be of one snapshot.

    Raises DatabaseError.
    """
    page = await read_parts(connection, listing, asked)
    if not page.rows:
        return Page(rows=[], next=None)
    told = [key.told_ts for key in page.rows if key.told_ts is not None] or [page.rows[0].ts]
    values: dict[str, Any] = {
        "project_id": asked.project_id,
        "first_ts": page.rows[-1].ts,
        "last_ts": page.rows[0].ts,
        "times": [key.ts for key in page.rows],
        "first_told_ts": min(told),
        "last_told_ts": max(told),
        "request_ids": [key.request_id for key in page.rows if key.request_id is not None],
        **{f"{kind}s": [key.id for key in page.rows if key.kind == kind] for kind in ("request", "audit", "queue")},
    }
    found = await connection.execute(text(query("read_trail_lines")), values)
    return Page(rows=[TrailLine.from_row(row) for row in found.mappings()], next=page.next)
