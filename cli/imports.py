"""Backfilled events: decoded and checked by the code of ingest, stored with the origin `import`, whatever their age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from api.decode import Decoded, Window, event_time, read_event
from api.dependencies import Caller
from api.events import AnyEvent, ApiRequest, Audit, Balance, Payment, Queue
from api.keeper import DirectKeeper
from api.rejections import Code, Rejected
from api.resolve import make_drafts
from cli.maintenance import Account
from store.backfill import BackfillWriter, oldest_kept
from store.deadlines import Deadlines
from store.directory import Directory
from store.edition import Edition
from store.facts import RELATIONS, Facts
from store.group_writer import Written
from store.identity import EPOCH
from store.settings import Settings

ORIGIN = "import"
_RELATION: dict[type[AnyEvent], str] = {
    Payment: "payments",
    ApiRequest: "api_requests",
    Audit: "audit_events",
    Queue: "queue_events",
    Balance: "balance_samples",
}


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Takes batches of one project's events. Refresh at the end; until then the log knows what to refresh."""

    writer: BackfillWriter
    directory: Directory
    caller: Caller
    settings: Settings

    @classmethod
    async def open(
        cls, engine: AsyncEngine, edition: Edition, settings: Settings, deadlines: Deadlines, project: str
    ) -> Importer:
        """For a project of that name. Raises NotFound, DatabaseError."""
        directory = Directory(engine, settings)
        caller = Caller(
            project_id=await directory.project_id(project),
            project_name=project,
            key_id=None,
            scopes=frozenset(("ingest", "ingest:facilitator")),
        )
        return cls(
            writer=BackfillWriter(engine, deadlines, edition, settings),
            directory=directory,
            caller=caller,
            settings=settings,
        )

    async def take(self, batch: Sequence[tuple[int, bytes]], account: Account) -> None:
        """Store what can be stored of a batch, in one transaction. Raises DatabaseError: nothing of it was stored."""
        now = datetime.now(UTC)
        window = replace(Window.at(now, self.settings), oldest=EPOCH)
        events: list[AnyEvent | None] = []
        decoded = Decoded(events=events)
        for index, (_, raw) in enumerate(batch):
            try:
                events.append(self._event(raw, window, now))
            except Rejected as exc:
                events.append(None)
                decoded.refused[index] = exc
        drafts = await make_drafts(decoded, window, self.caller, self.directory)
        kept = await DirectKeeper(self.directory, _Stamp(self.writer)).keep(drafts)
        refused = {**decoded.refused, **kept.refused}
        new = kept.new.total if kept.new is not None else 0
        account.accepted += new
        account.duplicates += len(batch) - len(refused) - new
        for index in sorted(refused):
            account.reject(batch[index][0], refused[index].code.value, refused[index].message)

    async def refresh(self) -> int:
        """Make the touched hours again. Returns how many."""
        return await self.writer.refresh()

    def _event(self, raw: bytes, window: Window, now: datetime) -> AnyEvent:
        event = read_event(raw)
        ts = event_time(event.id, event.ts, window)
        oldest = oldest_kept(_RELATION[type(event)], now, self.settings)
        if ts < oldest:
            raise Rejected(
                Code.TOO_LATE, f"{ts:%Y-%m-%d} is before {oldest:%Y-%m-%d}, and retention would drop it at once"
            )
        return event


class _Stamp:
    """A writer of facts that says who told of them."""

    def __init__(self, writer: BackfillWriter) -> None:
        self._writer = writer

    async def write(self, facts: Facts) -> Written:
        """Raises DatabaseError: nothing was stored."""
        for relation in RELATIONS:
            rows = getattr(facts, relation)
            rows[:] = [msgspec.structs.replace(row, origin=ORIGIN) for row in rows]
        return Written(stored=await self._writer.write(facts))
