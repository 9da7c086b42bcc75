"""The backlog: drafts from the spool → rows. Nothing is judged again; what cannot be stored is told apart by event.

A batch that the database refuses for its content is halved until the events that it refuses stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text

from store import rollups
from store.aged_cache import Clock
from store.deadlines import Deadlines
from store.directory import Directory
from store.drafts import Drafts, resolve
from store.edition import Edition
from store.engine import create_engine, reading
from store.errors import DatabaseRefusedData
from store.facts import Facts
from store.horizons import DAY, RELATIONS, retention_of
from store.named_sql import query
from store.settings import Settings
from store.writer import FactWriter

POOL = 2
"""Connections of the drain's own: live traffic cannot starve it, nor it live traffic."""
REFUSED = "refused"
EXPIRED = "expired"
NAMELESS = "unresolved"
UNREADABLE = "unreadable"
_NO_LIMIT = 2**31 - 1

Row = tuple[str, msgspec.Struct]
"""Relation, fact."""


@dataclass(frozen=True, kw_only=True)
class Unstored:
    """An event that cannot be stored, and why. `line`: all of it, as one line of JSON."""

    reason: str
    message: str
    id: str
    line: bytes


@dataclass(kw_only=True)
class Outcome:
    """What became of a batch. `touched`: first and last time of rows that no scheduled refresh will look at."""

    new: int = 0
    duplicates: int = 0
    erased: int = 0
    unstored: list[Unstored] = field(default_factory=list)
    touched: tuple[datetime, datetime] | None = None


class Backlog:
    """Stores what was kept. One batch at a time."""

    def __init__(self, settings: Settings, deadlines: Deadlines, edition: Edition, clock: Clock) -> None:
        self._settings = settings
        self._deadlines = deadlines
        self._edition = edition
        self._clock = clock
        self.seconds = deadlines.direct_write
        self.patience = deadlines.cached_look_up
        self._engine = create_engine(
            settings.required_database_url, deadlines, pool_size=POOL, statement=deadlines.write_statement
        )
        # What was accepted is not refused for want of room among the unregistered: the spool's bound is theirs too.
        self._directory = Directory(self._engine, replace(settings, max_unregistered=_NO_LIMIT), clock)
        self._writer = FactWriter(self._engine, deadlines)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Returns if the database answers. Raises DatabaseError."""
        async with reading(self._engine) as connection:
            await connection.execute(text(query("ping")))

    async def store(self, batch: list[Drafts]) -> Outcome:
        """Store what can be stored. Raises DatabaseError: the database's fault, not the rows'; try again later."""
        outcome = Outcome()
        rows: list[Row] = []
        for drafts in batch:
            rows += await self._resolve(drafts, outcome)
        await self._write(self._not_expired(rows, outcome), outcome)
        return outcome

    async def refresh(self, first: datetime, last: datetime) -> None:
        """Refresh the rollups of rows that are older than the scheduled refresh looks back. Raises DatabaseError."""
        engine = create_engine(
            self._settings.required_database_url,
            self._deadlines,
            pool_size=1,
            statement=self._deadlines.job_statement,
        )
        try:
            # To the end of the last row's day: only whole buckets are refreshed.
            await rollups.refresh_range(engine, self._edition, self._settings, first, last + 2 * DAY)
        finally:
            await engine.dispose()

    async def _resolve(self, drafts: Drafts, outcome: Outcome) -> list[Row]:
        try:
            resolved = await resolve(drafts, self._directory)
        except DatabaseRefusedData as exc:
            everything: list[Row] = [(relation, fact) for relation, rows in drafts.by_relation() for fact in rows.facts]
            await self._refuse(everything, exc, outcome)
            return []
        for relation, drafted in drafts.by_relation():
            for fact, wallet, asset, index in zip(
                drafted.facts, drafted.wallets, drafted.assets, drafted.indexes, strict=True
            ):
                if index in resolved.lost:
                    message = "the asset is neither a known symbol nor a mint"
                    outcome.unstored.append(_unstored((relation, fact), NAMELESS, message, wallet=wallet, asset=asset))
        return [(relation, fact) for relation, facts in resolved.facts.by_relation() for fact in facts]

    def _not_expired(self, rows: list[Row], outcome: Outcome) -> list[Row]:
        """Rows that retention still keeps. A row in a dropped partition would make its rollup forget the others."""
        now = self._clock()
        keeps = {known.name: now - retention_of(known, self._settings) + known.chunk_interval for known in RELATIONS}
        left = []
        for relation, row in rows:
            if row.ts < keeps[relation]:  # type: ignore[attr-defined]
                message = "it is older than what retention keeps; see the runbook TollwatchSpoolQuarantine"
                outcome.unstored.append(_unstored((relation, row), EXPIRED, message))
            else:
                left.append((relation, row))
        self._note_touched(left, now, outcome)
        return left

    def _note_touched(self, rows: list[Row], now: datetime, outcome: Outcome) -> None:
        if self._edition.has_own_rollups:  # whose log of dirty hours has no horizon
            return
        seen_until = now - self._settings.rollup_window + 2 * DAY
        old = [row.ts for _, row in rows if row.ts < seen_until]  # type: ignore[attr-defined]
        if old:
            outcome.touched = min(old), max(old)

    async def _write(self, rows: list[Row], outcome: Outcome) -> None:
        if not rows:
            return
        try:
            stored = await self._writer.write(_facts(rows))
        except DatabaseRefusedData as exc:
            if len(rows) == 1:
                await self._refuse(rows, exc, outcome)
                return
            middle = len(rows) // 2
            await self._write(rows[:middle], outcome)
            await self._write(rows[middle:], outcome)
            return
        outcome.new += stored.total
        outcome.duplicates += len(rows) - stored.total

    async def _refuse(self, rows: list[Row], why: DatabaseRefusedData, outcome: Outcome) -> None:
        """Rows of a project that was erased meanwhile are erased too; others are put aside."""
        ids = sorted({row.project_id for _, row in rows})  # type: ignore[attr-defined]
        async with reading(self._engine) as connection:
            there = set((await connection.execute(text(query("existing_projects")), {"ids": ids})).scalars())
        for row in rows:
            if row[1].project_id in there:  # type: ignore[attr-defined]
                outcome.unstored.append(_unstored(row, REFUSED, str(why)))
            else:
                outcome.erased += 1


def _facts(rows: list[Row]) -> Facts:
    facts = Facts()
    for relation, row in rows:
        getattr(facts, relation).append(row)
    return facts


def _unstored(row: Row, reason: str, message: str, **names: object) -> Unstored:
    relation, fact = row
    told: dict[str, Any] = {"reason": reason, "message": message, "relation": relation, "fact": fact}
    told |= {name: value for name, value in names.items() if value is not None}
    event_id = str(getattr(fact, "id", ""))  # a balance sample has none
    return Unstored(reason=reason, message=message, id=event_id, line=msgspec.json.encode(told) + b"\n")
