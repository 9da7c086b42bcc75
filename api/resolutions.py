"""`POST /v1/audit-events/{id}/resolution`: say who dealt with an audit event."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field

from api.dependencies import Caller, State, authorize
from api.problems import Problem, documented
from api.registry import Body, BoundedRoute, Text
from api.times import Moment, time_text
from store.errors import NotFound
from store.identity import time_of
from store.redact import redact_text
from store.resolutions import Resolution, put_resolution

router = APIRouter(tags=["audit"], route_class=BoundedRoute)
Resolver = Annotated[Caller, Depends(authorize("ingest", "admin"))]


class ResolutionBody(Body):
    """Who dealt with it, and how."""

    resolved_by: Annotated[Text, Field(min_length=1, max_length=100, examples=["ada@example.com"])]
    note: Annotated[Text | None, Field(max_length=1000)] = None
    ts: Annotated[Moment | None, Field(description="The event's time; needed unless its id is a UUIDv7.")] = None


class ResolutionAnswer(BaseModel):
    """What is recorded about the event now."""

    event_id: UUID
    event_ts: str
    resolved_by: str
    resolved_at: str
    note: str | None
    automatic: bool


@router.post(
    "/v1/audit-events/{id}/resolution",
    responses={
        201: {"model": ResolutionAnswer, "description": "Recorded"},
        **documented(400, 401, 403, 404, 413, 422, 503),
    },
)
async def resolve_audit_event(
    event_id: Annotated[UUID, Path(alias="id")],
    body: ResolutionBody,
    response: Response,
    held: State,
    caller: Resolver,
) -> ResolutionAnswer:
    """Record who dealt with an audit event. Replaces an automatic resolution and an earlier person's.

    Sending the same again changes nothing.
    """
    asked = Resolution(
        event_id=event_id,
        event_ts=_event_time(event_id, body.ts),
        resolved_by=redact_text(body.resolved_by),
        resolved_at=held.clock(),
        note=None if body.note is None else redact_text(body.note),
        automatic=False,
    )
    created, kept = await put_resolution(held.engine, caller.project_id, asked)
    if created:
        response.status_code = 201
    times = {"event_ts": time_text(kept.event_ts), "resolved_at": time_text(kept.resolved_at)}
    return ResolutionAnswer.model_validate(vars(kept) | times)


def _event_time(event_id: UUID, ts: datetime | None) -> datetime:
    """The time of the event that has this id. Raises NotFound, Problem 422."""
    try:
        moment = time_of(event_id) or ts
    except OverflowError as exc:
        raise NotFound(f"there is no audit event {event_id}") from exc
    if moment is None:
        raise Problem(422, "missing_ts", "the event's id is no UUIDv7, so ts must say when it happened")
    if ts not in (None, moment):
        raise Problem(422, "id_time_mismatch", f"ts is not the time in id, {time_text(moment)}; leave ts out")
    return moment
