"""`POST /v1/events`: one batch in, one answer that accounts for every event.

authorize → api.body: bytes → encoded events → api.decode: checked events → api.resolve: drafts → api.keeper: kept
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
from api.keeper import Kept
from api.metrics import IngestMetrics
from api.rejections import Rejected, Rejection
from api.resolve import BREATH, Candidate, make_drafts
from store.drafts import Drafts
from store.facts import Stored

router = APIRouter(tags=["ingest"])
Ingester = Annotated[Caller, Depends(authorize("ingest", "ingest:facilitator", sends_events=True))]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: accepted + duplicates + len(rejected) is its length. `duplicates` None: spooled."""

    accepted: int
    duplicates: int | None
    rejected: list[Rejection]
    spooled: bool = False


@router.post("/v1/events", **ingest_docs.ROUTE)
async def ingest(request: Request, held: State, caller: Ingester) -> Response:
    """Store a batch of events, exactly once. One bad event never sinks its batch.

    Accepted events are committed when the answer arrives. Sending a batch again, whole or in part, is always safe: what
    is there already counts as a duplicate and changes nothing.
    """
    raws = await read_events(request, held, caller)
    held.limits.admit(caller, events=len(raws))
    answer = await _keep(raws, held, caller)
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _keep(raws: list[RawEvent], held: AppState, caller: Caller) -> Answer:
    candidates, rejections = await _read_all(raws, Window.at(held.clock(), held.settings))
    drafts = await make_drafts(candidates, caller, held.directory)
    kept = await held.keeper.keep(drafts) if len(drafts) else Kept(new=Stored(new={}))
    # Counted only now: of a batch that fails as a whole, nothing was answered.
    refused = {one.index: one.refused for one in candidates if one.refused is not None} | dict(kept.refused)
    rejections |= {index: _rejection(index, raws[index], why) for index, why in refused.items()}
    _count(held.ingest_metrics, raws, rejections, drafts, kept)
    keeping = len(drafts) - len(kept.refused)
    return Answer(
        accepted=keeping if kept.new is None else kept.new.total,
        duplicates=None if kept.new is None else keeping - kept.new.total,
        rejected=[rejections[index] for index in sorted(rejections)],
        spooled=kept.new is None,
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
    metrics: IngestMetrics, raws: list[RawEvent], rejections: dict[int, Rejection], drafts: Drafts, kept: Kept
) -> None:
    for relation, rows in drafts.by_relation():
        keeping = sum(index not in kept.refused for index in rows.indexes)
        if kept.new is None:
            metrics.count(_TYPES[relation], "spooled", number=keeping)
        else:
            new = kept.new.new.get(relation, 0)
            metrics.count(_TYPES[relation], "accepted", number=new)
            metrics.count(_TYPES[relation], "duplicate", number=keeping - new)
    for index, rejection in rejections.items():
        metrics.count(peek(raws[index])[1], "rejected", rejection.code)
