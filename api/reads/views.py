"""Reads of what follows from facts: the ledger, the queue, sessions, breakers, runway."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.problems import documented
from api.reads.answers import Listed, Reads, answer
from api.reads.models import BreakerItem, Page
from api.reads.models_views import (
    BreakerIntervalItem,
    QueueEventItem,
    RunwayItem,
    SessionItem,
    TrailItem,
    WaitingItem,
)
from api.reads.questions import BreakersQuestion, QueueQuestion, RunwayQuestion, SessionsQuestion, TrailQuestion
from store.errors import InvalidValue
from store.readers import listings, listings_views, sessions, trail

router = APIRouter(tags=["reads"], responses=documented(401, 403, 404, 422, 503))

AUDIT_TRAIL = Listed(listing=trail.AUDIT_TRAIL, item=TrailItem, read=trail.read_trail, is_one_snapshot=True)
QUEUE = Listed(listing=listings_views.QUEUE, item=WaitingItem)
QUEUE_EVENTS = Listed(listing=listings_views.QUEUE_EVENTS, item=QueueEventItem)
SESSIONS = Listed(listing=sessions.SESSIONS, item=SessionItem, read=sessions.read_sessions)
RUNWAY = Listed(listing=listings_views.RUNWAY, item=RunwayItem)
BREAKERS = Listed(listing=listings.BREAKERS, item=BreakerItem)
BREAKER_INTERVALS = Listed(listing=listings_views.BREAKER_INTERVALS, item=BreakerIntervalItem)


@router.get("/v1/audit-trail", response_model=Page[TrailItem])
async def list_audit_trail(who: Reads, question: Annotated[TrailQuestion, Query()]) -> Response:
    """The ledger, newest first: one line per request (its last attempt, with what all of them paid and the balance
    before and after), per audit event and per queue event. 31 days at most.
    """
    return await answer(who, AUDIT_TRAIL, question)


@router.get("/v1/queue", response_model=Page[WaitingItem] | Page[QueueEventItem])
async def list_queue(who: Reads, question: Annotated[QueueQuestion, Query()]) -> Response:
    """Requests that wait now, the longest first. With `history=true`, or a range, what was queued, processed and
    dropped, newest first (31 days at most).
    """
    if question.is_history:
        return await answer(who, QUEUE_EVENTS, question)
    if question.state is not None:
        raise InvalidValue("`state` goes with history=true; what waits now is queued")
    return await answer(who, QUEUE, question)


@router.get("/v1/sessions", response_model=Page[SessionItem])
async def list_sessions(who: Reads, question: Annotated[SessionsQuestion, Query()]) -> Response:
    """Wallet sessions by agent: what they allow, what agents say they used, what was seen to settle."""
    return await answer(who, SESSIONS, question)


@router.get("/v1/runway", response_model=Page[RunwayItem])
async def list_runway(who: Reads, question: Annotated[RunwayQuestion, Query()]) -> Response:
    """How long the money of every wallet and asset lasts: its balance over what flowed out in the last 24 hours."""
    return await answer(who, RUNWAY, question)


@router.get("/v1/breakers", response_model=Page[BreakerItem] | Page[BreakerIntervalItem])
async def list_breakers(who: Reads, question: Annotated[BreakersQuestion, Query()]) -> Response:
    """Present state of every circuit breaker, by agent and component. With `history=true`, or a range, the times that
    they spent in each state, as far as they reach into the range, newest first (31 days at most).
    """
    return await answer(who, BREAKER_INTERVALS if question.is_history else BREAKERS, question)
