"""Ticks: the instants at which a job is due, whole multiples of its interval since 1970.

Every process, and one that starts again, has the same ticks: what is keyed by its tick is written once. APScheduler
does the waiting; `GridTrigger` and `TickExecutor` extend it where it is made to be extended. Its own executor neither
tells a job the time that it was due nor waits for jobs when it stops.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.executors.base import BaseExecutor  # type: ignore[import-untyped]
from apscheduler.job import Job as ScheduledJob  # type: ignore[import-untyped]
from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]

from store.identity import EPOCH


def tick_before(moment: datetime, interval: timedelta) -> datetime:
    """The newest tick that is not after `moment`."""
    return EPOCH + (moment - EPOCH) // interval * interval


class GridTrigger(BaseTrigger):  # type: ignore[misc]
    """Due at every tick of an interval."""

    def __init__(self, interval: timedelta) -> None:
        self._interval = interval

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first tick after the previous one, which may have been off the grid (a first run at start)."""
        return tick_before(previous_fire_time or now, self._interval) + self._interval

    def __str__(self) -> str:
        return f"every {self._interval}"


class TickExecutor(BaseExecutor):  # type: ignore[misc]
    """Runs coroutine functions in the loop. The last argument of a job is replaced by the time that it was due, UTC."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()

    def _do_submit_job(self, job: ScheduledJob, run_times: list[datetime]) -> None:
        task = asyncio.get_running_loop().create_task(job.func(*job.args[:-1], run_times[-1].astimezone(UTC)))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, job.id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._run_job_success(job_id, [])

    async def drain(self, seconds: float) -> None:
        """Wait for what is under way; what takes longer is cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
