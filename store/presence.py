"""Whether the database answers: asked by whoever would otherwise wait for it in vain, told by whoever did.

One per process. While it is away, keys and names come from their caches at once, and batches go to the spool, instead
of each request waiting for a deadline. `api.draining` asks the database again and again and tells when it is back;
without news for AWAY the next one asks.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TypeVar

from store.aged_cache import Clock, utc_now
from store.errors import DatabaseTimeout, DatabaseUnavailable
from store.logs import event

AWAY = timedelta(seconds=3)
"""How long bad news lasts; longer than it takes to ask again."""

DATABASE_LOST = "database_lost"
DATABASE_BACK = "database_back"

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Presence:
    """What is known of the database's presence."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._lost_at: datetime | None = None

    @property
    def is_away(self) -> bool:
        """Whether asking is in vain just now."""
        return self._lost_at is not None and timedelta(0) <= self._clock() - self._lost_at <= AWAY

    def lost(self, cause: BaseException) -> None:
        """It did not answer."""
        if self._lost_at is None:
            event(_log, logging.WARNING, DATABASE_LOST, error=cause)
        self._lost_at = self._clock()

    def back(self) -> None:
        """It answered."""
        if self._lost_at is not None:
            event(_log, logging.INFO, DATABASE_BACK, away_since=self._lost_at)
        self._lost_at = None

    async def ask(self, question: asyncio.Task[T], seconds: float) -> T:
        """What the database answers, within `seconds`. Raises DatabaseError.

        A question that takes longer is left to itself: ending it takes an answer too.
        """
        done, _ = await asyncio.wait({question}, timeout=seconds)
        if not done:
            # Its own deadline ends it; nobody waits for what it says by then.
            question.add_done_callback(_retrieve)
            late = DatabaseTimeout(f"the database did not answer within {seconds:g} s; check what keeps it busy")
            self.lost(late)
            raise late
        try:
            answer = question.result()
        except (DatabaseUnavailable, DatabaseTimeout) as exc:
            self.lost(exc)
            raise
        self.back()
        return answer


def _retrieve(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
