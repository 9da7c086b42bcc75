"""The keeper behind ingest that loses nothing while the database is away, slow or refusing.

    keep ──► direct: committed ──► answer
      └──► (away, late, refused) ──► spool: fsynced ──► answer "spooled" ──► api.draining, when the database is back

A direct write that is late may still commit, and is on the spool as well: the write is exactly once, so the second one
changes nothing. What the database refuses for its content is refused here too.
"""

from __future__ import annotations

import asyncio
import logging

from api.keeper import Keeper, Kept
from store.drafts import Drafts
from store.errors import (
    DatabaseBusy,
    DatabaseConflict,
    DatabaseError,
    DatabaseFull,
    DatabaseRefusedData,
    DatabaseTimeout,
    DatabaseUnavailable,
)
from store.logs import event
from store.presence import Presence
from store.spool.appender import Spool

MAX_LATE = 64
"""Late direct writes that are being ended; with more of them everything goes to the spool."""

SPOOLING = "spooling_begins"
DIRECT_AGAIN = "spooling_ends"

_log = logging.getLogger(__name__)


class SpoolingKeeper:
    """Writes directly while that works; else keeps drafts on the spool, at once, until told that it works again."""

    def __init__(self, direct: Keeper, spool: Spool, presence: Presence, *, seconds: float) -> None:
        """`seconds`: how long a direct write may take."""
        self._direct = direct
        self._spool = spool
        self._presence = presence
        self._seconds = seconds
        self._writing: set[asyncio.Task[Kept]] = set()
        self._late: set[asyncio.Task[Kept]] = set()
        self.is_spooling = False

    @property
    def is_busy(self) -> bool:
        """Whether live batches are being written just now."""
        return bool(self._writing)

    async def keep(self, drafts: Drafts) -> Kept:
        """Returns once the drafts are committed, or fsynced on the spool.

        Raises SpoolRefused: neither was possible. DatabaseRefusedData: they cannot be stored.
        """
        if not self.is_spooling and not self._presence.is_away and len(self._late) < MAX_LATE:
            try:
                return await self._keep_directly(drafts)
            except DatabaseRefusedData:
                raise
            except (DatabaseBusy, DatabaseConflict) as exc:
                # Others get through: no reason to spool what comes next.
                event(_log, logging.WARNING, SPOOLING, error=exc, events=len(drafts))
            except DatabaseError as exc:
                self.suspend(exc)
        await self._spool.append(drafts.encode(), len(drafts))
        return Kept(new=None)

    def suspend(self, cause: BaseException) -> None:
        """Direct writes are in vain: spool until `resume`."""
        if not self.is_spooling:
            event(_log, logging.WARNING, SPOOLING, error=cause)
        self.is_spooling = True
        if isinstance(cause, DatabaseUnavailable) and not isinstance(cause, DatabaseFull):
            self._presence.lost(cause)

    def resume(self) -> None:
        """A write went through."""
        if self.is_spooling:
            event(_log, logging.INFO, DIRECT_AGAIN, events_on_spool=self._spool.events)
        self.is_spooling = False

    async def close(self, seconds: float) -> None:
        """Give late writes a last chance to end in order."""
        if self._late:
            await asyncio.wait(self._late, timeout=seconds)

    async def _keep_directly(self, drafts: Drafts) -> Kept:
        task = asyncio.create_task(self._direct.keep(drafts))
        self._writing.add(task)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._seconds)
        finally:
            self._writing.discard(task)
            if not task.done():
                # Out of the queue, if it is still there. Ending a statement takes an answer of the database, or ten
                # seconds, so nobody waits for that.
                self._late.add(task)
                task.add_done_callback(self._late_ended)
                task.cancel()
        if not done:
            raise DatabaseTimeout(f"a batch was not committed within {self._seconds:g} s")
        return task.result()

    def _late_ended(self, task: asyncio.Task[Kept]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()
