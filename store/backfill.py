"""Backfill: facts older than ingest accepts, exactly once, with rollups and totals made right.

One batch is one transaction: what is stored already is left out; the rest goes the writer's way; what belongs to
buckets that are folded is added to the totals there and then; the hours are logged. `refresh` then makes those hours
and their days again, and no others. Killed in between, the log is still there: the next run or the collector refreshes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store import rollups, totals
from store.deadlines import Deadlines
from store.edition import Edition
from store.errors import DatabaseConflict, DatabaseTimeout
from store.facts import Facts, Stored
from store.horizons import DAY, RELATIONS, retention_of
from store.named_sql import query, rendered
from store.settings import Settings
from store.writer import FactWriter, News, forget_known, move, stage

EDGE = 2 * DAY
"""What retention takes within this time is not worth a backfill: its buckets could not be refreshed any more."""
RETRY_SECONDS = 0.5
"""Before a refresh that met another one is tried again."""

_LATE = {
    "payments": ("payments", ("add_late_payments",)),
    "api_requests": ("api_requests", ("add_late_requests", "add_late_latency")),
    "audit_events": ("audit_events", ("add_late_audit",)),
    "balance_samples": ("audit_events", ("add_late_crossings",)),
}
"""Relation → whose totals its new rows belong to, and the statements that add them."""


def oldest_kept(relation: str, now: datetime, settings: Settings) -> datetime:
    """The oldest event of a relation that a backfill takes."""
    known = next(item for item in RELATIONS if item.name == relation)
    return now - retention_of(known, settings) + EDGE


class BackfillWriter(FactWriter):
    """Stores facts of any age. One at a time works on a database; others wait for it, batch by batch."""

    def __init__(self, engine: AsyncEngine, deadlines: Deadlines, edition: Edition, settings: Settings) -> None:
        super().__init__(engine, deadlines)
        self._edition = edition
        self._settings = settings
        self._folded = False

    async def write(self, facts: Facts) -> Stored:
        """Store a batch. Returns what was new. Raises DatabaseError: nothing was stored."""
        if not self._folded:
            # What is older than any refresh policy looks goes to the base, and no total waits for a refresh by hand.
            await totals.fold(self._engine, self._edition, self._settings)
            self._folded = True
        return await super().write(facts)

    async def refresh(self) -> int:
        """Bring the rollups up to date with what was written. Returns the number of hours that were made again.

        Raises DatabaseError: what is left is refreshed by the next run, or by the collector.
        """
        give_up = time.monotonic() + self._deadlines.job_run
        while True:
            try:
                return await rollups.refresh(self._engine, self._edition, self._settings)
            except (DatabaseConflict, DatabaseTimeout):
                # The collector refreshes the same rollups now.
                if time.monotonic() > give_up:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _store(self, connection: AsyncConnection, group: Sequence[Facts], *, sift: bool) -> dict[str, News]:
        (facts,) = group  # always sifted
        locked = await connection.execute(text(query("lock_totals")))
        folded = {row.relation: row.folded_until for row in locked}
        return {
            relation: {0: await self._store_relation(connection, relation, rows, folded)}
            for relation, rows in facts.by_relation()
            if rows
        }

    async def _store_relation(
        self,
        connection: AsyncConnection,
        relation: str,
        rows: Sequence[msgspec.Struct],
        folded: dict[str, datetime],
    ) -> int:
        await stage(connection, relation, [rows])
        left = await forget_known(connection, relation)
        if sum((await move(connection, relation)).values()) != left:
            raise DatabaseConflict("ingest stored an event of the backfill at the same moment; trying again helps")
        if relation in _LATE:
            whose, statements = _LATE[relation]
            for name in statements:
                await connection.execute(text(query(name)), {"folded_until": folded[whose]})
        if not self._edition.has_own_rollups:
            await _log(connection, relation, rendered("staged_hours", relation=relation))
            if relation == "balance_samples":
                await _log(connection, "audit_events", query("staged_crossings"))
        return left


async def _log(connection: AsyncConnection, relation: str, statement: str) -> None:
    hours = list((await connection.execute(text(statement))).scalars())
    if hours and rollups.of(relation):
        await connection.execute(text(query("log_backfill")), {"relation": relation, "hours": hours})
