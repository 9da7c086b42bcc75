"""Resolutions: who dealt with an audit event, and when. A person's replaces an automatic and an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from store.engine import writing
from store.errors import NotFound
from store.named_sql import query


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What is recorded about an audit event that was dealt with."""

    event_id: UUID
    event_ts: datetime
    resolved_by: str
    resolved_at: datetime
    note: str | None
    automatic: bool


async def put_resolution(engine: AsyncEngine, project_id: int, resolution: Resolution) -> tuple[bool, Resolution]:
    """Record a resolution. Returns whether the event had none, and what is recorded now.

    The same person and note again change nothing. Raises NotFound (the event) and DatabaseError.
    """
    values = {**vars(resolution), "project_id": project_id}
    async with writing(engine) as connection:
        if (await connection.execute(text(query("audit_event_at")), values)).one_or_none() is None:
            raise NotFound(f"there is no audit event {resolution.event_id}")
        created = (await connection.execute(text(query("put_resolution")), values)).scalar_one_or_none()
        row = (await connection.execute(text(query("resolution_of")), values)).mappings().one()
    return bool(created), Resolution(**row)
