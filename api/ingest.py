"""`POST /v1/events`: one batch in, one transaction, one answer that accounts for every event.

api.body: bytes → encoded events     api.decode: → checked events
api.resolve: → facts                 store.writer: → rows
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from api import ingest_docs
from api.body import RawEvent, read_events
from api.decode import Window, event_time, peek, read_event
from api.dependencies import AppState, Caller, State, authorize
from api.events import EVENT_TYPES
from api.metrics import IngestMetrics
from api.rejections import Rejected, Rejection
from api.resolve import BREATH, Candidate, make_facts
from store.facts import Facts, Stored

router = APIRouter(tags=["ingest"])
Ingester = Annotated[Caller, Depends(authorize("ingest", "ingest:facilitator"))]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: accepted + duplicates + len(rejected) is its length."""

    accepted: int
    duplicates: int
    rejected: list[Rejection]
    spooled: bool = False


@router.post("/v1/events", **ingest_docs.ROUTE)
async def ingest(request: Request, held: State, caller: Ingester) -> Response:
    """Store a batch of events, exactly once. One bad event never sinks its batch.

    Accepted events are committed when the answer arrives. Sending a batch again, whole or in part, is always safe: what
    is there already counts as a duplicate and changes nothing.
    """
    raws = await read_events(request, held.settings)
    answer = await _store(raws, held, caller)
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _store(raws: list[RawEvent], held: AppState, caller: Caller) -> Answer:
    candidates, rejections = await _read_all(raws, Window.at(held.clock(), held.settings))
    facts = await make_facts(candidates, caller, held.directory)
    stored = await held.writer.write(facts) if len(facts) else Stored(new={})
    # Counted only now: of a batch that fails as a whole, nothing was answered.
    for candidate in candidates:
        if candidate.refused is not None:
            rejections[candidate.index] = _rejection(candidate.index, raws[candidate.index], candidate.refused)
    _count(held.ingest_metrics, raws, rejections, facts, stored)
    return Answer(
        accepted=stored.total,
        duplicates=len(facts) - stored.total,
        rejected=[rejections[index] for index in sorted(rejections)],
    )


async def _read_all(raws: list[RawEvent], window: Window) -> tuple[list[Candidate], dict[int, Rejection]]:
    candidates, rejections = [], {}
    for index, raw in enumerate(raws):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            event = read_event(raw)
            candidates.append(Candidate(index=index, event=event, ts=event_time(event.id, event.ts, window)))
        except Rejected as exc:
            rejections[index] = _rejection(index, raw, exc)
    return candidates, rejections


def _rejection(index: int, raw: RawEvent, why: Rejected) -> Rejection:
    return Rejection(index=index, id=peek(raw)[0], code=why.code.value, message=why.message)


_TYPES = {
    "payments": "payment",
    "api_requests": "api_request",
    "audit_events": "audit",
    "queue_events": "queue",
    "balance_samples": "balance",
}
assert set(_TYPES.values()) == set(EVENT_TYPES)


def _count(
    metrics: IngestMetrics, raws: list[RawEvent], rejections: dict[int, Rejection], facts: Facts, stored: Stored
) -> None:
    for relation, event_type in _TYPES.items():
        new = stored.new.get(relation, 0)
        metrics.count(event_type, "accepted", number=new)
        metrics.count(event_type, "duplicate", number=len(getattr(facts, relation)) - new)
    for index, rejection in rejections.items():
        metrics.count(peek(raws[index])[1], "rejected", rejection.code)
