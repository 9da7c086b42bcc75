"""Wallet sessions: first which a page has, then what was seen to settle under them."""

from __future__ import annotations

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.named_sql import query
from store.readers import positions
from store.readers.listings import Asked, Listing, Page, read_page
from store.readers.values_views import SessionUsage

SESSIONS = Listing(
    query="read_sessions",
    row=SessionUsage,
    position=positions.SessionPosition,
    filters=("agent_id", "wallet_ids", "status"),
    is_of_time=False,
)
"""The sessions alone, with nothing settled; `read_sessions` reads a page with the counts."""


async def read_sessions(
    connection: AsyncConnection, listing: Listing[SessionUsage], asked: Asked
) -> Page[SessionUsage]:
    """Read one page. Raises DatabaseError."""
    page = await read_page(connection, listing, asked)
    values = {"project_id": asked.project_id, "session_ids": [row.session_id for row in page.rows]}
    found = await connection.execute(text(query("count_session_payments")), values)
    settled = {row.session_id: row.payments for row in found}
    rows = [msgspec.structs.replace(row, tx_settled=settled.get(row.session_id, 0)) for row in page.rows]
    return Page(rows=rows, next=page.next)
