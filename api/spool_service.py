"""The spool of one API process, opened and closed in one place: keeper, drainer, and what is told about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.draining import Drainer
from api.keeper import Keeper
from api.metrics import SpoolMetrics
from api.spooling import SpoolingKeeper
from store.aged_cache import Clock
from store.backlog import Backlog
from store.deadlines import Deadlines
from store.edition import Edition
from store.errors import SettingsError
from store.logs import event
from store.presence import Presence
from store.settings import Settings
from store.spool.appender import Spool
from store.spool.folder import SpoolFolder

WATCH_S = 1.0
"""How often the figures on /metrics are brought up to date."""

SPOOL_UNREADABLE = "spool_unreadable"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SpoolService:
    """What runs while a process serves."""

    spool: Spool
    keeper: SpoolingKeeper
    drainer: Drainer


@dataclass(frozen=True, kw_only=True)
class SpoolOptions:
    """What a spool is made from. `installation`: whose rows they are; each database has a folder of its own."""

    settings: Settings
    deadlines: Deadlines
    clock: Clock
    edition: Edition
    installation: str


@asynccontextmanager
async def spooling(
    options: SpoolOptions, direct: Keeper, presence: Presence, metrics: SpoolMetrics
) -> AsyncIterator[SpoolService]:
    """The spool in front of `direct`. Raises StartRefused and SettingsError; damage on the disk is no reason."""
    settings, deadlines = options.settings, options.deadlines
    if settings.spool_segment * 2 > settings.spool_max:
        raise SettingsError("TOLLWATCH_SPOOL_MAX must be at least twice TOLLWATCH_SPOOL_SEGMENT")
    folder = SpoolFolder(
        settings.spool_folder / options.installation,
        max_bytes=settings.spool_max,
        lock_seconds=deadlines.spool_lock,
    )
    spool = Spool(folder, segment_bytes=settings.spool_segment, clock=options.clock)
    keeper = SpoolingKeeper(direct, spool, presence, seconds=deadlines.direct_write)
    backlog = Backlog(settings, deadlines, options.edition, options.clock)
    drainer = Drainer(spool, keeper, presence, backlog)
    try:
        await spool.open()
        drainer.start()
        watching = asyncio.create_task(_watch(spool, drainer, metrics))
        try:
            yield SpoolService(spool=spool, keeper=keeper, drainer=drainer)
        finally:
            watching.cancel()
            await drainer.stop(deadlines.shutdown / 2)
            await keeper.close(deadlines.shutdown / 2)
    finally:
        await spool.close()
        await backlog.close()


async def _watch(spool: Spool, drainer: Drainer, metrics: SpoolMetrics) -> None:
    while True:
        try:
            metrics.show(await spool.status())
        except OSError as exc:
            event(_log, logging.ERROR, SPOOL_UNREADABLE, error=exc)
        metrics.count(refused=spool.refused, drained=drainer.results, damaged=drainer.damaged)
        await asyncio.sleep(WATCH_S)
