"""The periodic work on the database, as jobs of the scheduler. What each does is in `store`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from collector.scheduler import Job
from store import heads, partitions, retention, rollups, totals
from store.deadlines import Deadlines
from store.edition import Edition
from store.settings import Settings

GROUP = "maintenance"
HOUR = timedelta(hours=1)
FOLD_INTERVAL = timedelta(minutes=5)

Maintenance = Callable[[AsyncEngine, Edition, Settings], Awaitable[int]]


def maintenance(engine: AsyncEngine, edition: Edition, settings: Settings, deadlines: Deadlines) -> list[Job]:
    """Every job. `engine` must let a statement take `deadlines.job_statement` seconds."""
    due: list[tuple[str, timedelta, Maintenance]] = [
        ("partitions", HOUR, partitions.ensure_ahead),
        ("rollups", settings.rollup_interval, rollups.refresh),
        ("totals", FOLD_INTERVAL, totals.fold),
        ("retention", HOUR, retention.expire),
        ("heads", HOUR, heads.prune),
    ]
    return [
        Job(
            name=name,
            interval=interval,
            deadline=deadlines.job_run,
            call=_bind(work, engine, edition, settings),
            group=GROUP,
        )
        for name, interval, work in due
    ]


def _bind(
    work: Maintenance, engine: AsyncEngine, edition: Edition, settings: Settings
) -> Callable[[datetime], Awaitable[None]]:
    async def run(_tick: datetime) -> None:
        await work(engine, edition, settings)

    return run
