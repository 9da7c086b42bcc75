"""`POST /v1/events`: one batch in, one answer that accounts for every event.

authorize → api.body: bytes → api.decode: events → api.resolve: drafts → api.keeper: kept → answer
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from api import ingest_docs
from api.body import read_body
from api.decode import Batch, Window, read_batch
from api.dependencies import Caller, State, authorize
from api.events import EVENT_TYPES
from api.keeper import Kept
from api.metrics import IngestMetrics
from api.rejections import Rejection
from api.resolve import make_drafts
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

    Accepted events are committed when the answer arrives or, with `spooled`, safe on a disk and in the database soon.
    Sending a batch again, whole or in part, is always safe: what is there already counts as a duplicate and changes
    nothing.
    """
    batch = await read_batch(await read_body(request, held, caller))
    held.limits.admit(caller, events=len(batch.events))
    drafts = await make_drafts(batch, Window.at(held.clock(), held.settings), caller, held.directory)
    kept = await held.keeper.keep(drafts) if len(drafts) else _NOTHING
    # Counted only now: of a batch that fails as a whole, nothing was answered.
    answer = Answer(
        accepted=len(drafts) - len(kept.refused) if kept.new is None else kept.new.total,
        duplicates=None if kept.new is None else len(drafts) - len(kept.refused) - kept.new.total,
        rejected=_rejections(batch, kept, held.ingest_metrics),
        spooled=kept.new is None,
    )
    _count(drafts, kept, held.ingest_metrics)
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _rejections(batch: Batch, kept: Kept, metrics: IngestMetrics) -> list[Rejection]:
    rejections = []
    for index, why in sorted({**batch.refused, **kept.refused}.items()):
        event_type, rejection = batch.rejection(index, why)
        metrics.count(event_type, "rejected", rejection.code)
        rejections.append(rejection)
    return rejections


_TYPES = {
    "payments": "payment",
    "api_requests": "api_request",
    "audit_events": "audit",
    "queue_events": "queue",
    "balance_samples": "balance",
}
assert set(_TYPES.values()) == set(EVENT_TYPES)
_NOTHING = Kept(new=Stored(new={}))


def _count(drafts: Drafts, kept: Kept, metrics: IngestMetrics) -> None:
    for relation, rows in drafts.by_relation():
        keeping = len(rows) - sum(index in kept.refused for index in rows.indexes) if kept.refused else len(rows)
        if kept.new is None:
            metrics.count(_TYPES[relation], "spooled", number=keeping)
        else:
            new = kept.new.new.get(relation, 0)
            metrics.count(_TYPES[relation], "accepted", number=new)
            metrics.count(_TYPES[relation], "duplicate", number=keeping - new)
