"""The scheduler: jobs registered by name, each run bounded, counted and timed, however it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.events import (  # type: ignore[import-untyped]
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_SUBMITTED,
    JobSubmissionEvent,
)
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]

from collector.metrics import JobMetrics
from collector.ticks import GridTrigger, TickExecutor, tick_before
from store.errors import SettingsError, TollwatchError
from store.identity import EPOCH
from store.job_runs import JobRun
from store.logs import event

JOB_FAILED = "job_failed"
JOB_RECOVERED = "job_recovered"
JOB_RAN = "job_ran"
TICK_SKIPPED = "tick_skipped"
SHORTEST_INTERVAL = timedelta(milliseconds=100)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something that is done at every tick of `interval`, and ended after `deadline` seconds.

    `call` takes the tick. `group` names what it shares its concurrency with. `at_start`: also at once, for the tick
    that was last.
    """

    name: str
    interval: timedelta
    deadline: float
    call: Callable[[datetime], Awaitable[None]]
    group: str
    at_start: bool = True


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Scheduler:
    """Runs jobs, no job twice at once, of each group at most `limits[group]` at once."""

    def __init__(
        self,
        metrics: JobMetrics,
        limits: Mapping[str, int],
        *,
        clock: Callable[[], datetime] = _utc_now,
        record: Callable[[JobRun], Awaitable[None]] | None = None,
    ) -> None:
        """`record` is told of every run that ended, and must not raise."""
        self._metrics = metrics
        self._record = record
        self._clock = clock
        self._slots = {group: asyncio.Semaphore(limit) for group, limit in limits.items()}
        self._jobs: dict[str, Job] = {}
        self._ticks: dict[str, datetime] = {}
        self._states: dict[str, str] = {}
        self._executor = TickExecutor()
        self._scheduler = AsyncIOScheduler(timezone=UTC, executors={"default": self._executor})
        self._scheduler.add_listener(self._submitted, EVENT_JOB_SUBMITTED | EVENT_JOB_MAX_INSTANCES)

    def add(self, job: Job) -> None:
        """Register a job. Raises SettingsError for an interval that no machine keeps."""
        if job.interval < SHORTEST_INTERVAL:
            raise SettingsError(f"the interval of {job.name} must be {SHORTEST_INTERVAL.total_seconds()} s or more")
        self._jobs[job.name] = job
        self._metrics.register(job.name)
        first = {"next_run_time": self._clock()} if job.at_start else {}
        self._scheduler.add_job(
            self._run,
            GridTrigger(job.interval),
            args=[job, EPOCH],
            id=job.name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
            **first,
        )

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._scheduler.start()

    async def stop(self, seconds: float) -> None:
        """Begin nothing more; wait for the runs under way, and cancel them after `seconds`."""
        if not self._scheduler.running:
            return
        self._scheduler.pause()
        await self._executor.drain(seconds)
        self._scheduler.shutdown(wait=False)
        # APScheduler does it in the loop's next turn.
        await asyncio.sleep(0)

    def _submitted(self, submission: JobSubmissionEvent) -> None:
        """Account for every tick: those that passed unseen since the last one, and one that came too early."""
        job = self._jobs[submission.job_id]
        tick = tick_before(submission.scheduled_run_times[-1], job.interval)
        last = self._ticks.get(job.name)
        self._ticks[job.name] = tick
        missed = 0 if last is None else max(0, (tick - last) // job.interval - 1)
        missed += submission.code == EVENT_JOB_MAX_INSTANCES
        if missed:
            self._skip(job, tick, missed)

    def _skip(self, job: Job, tick: datetime, ticks: int = 1) -> None:
        self._metrics.skipped(job.name, ticks)
        event(log, logging.INFO, TICK_SKIPPED, job=job.name, tick=tick, ticks=ticks)

    async def _run(self, job: Job, due: datetime) -> None:
        tick = tick_before(due, job.interval)
        async with self._slots[job.group]:
            if self._clock() - due > grace(job):
                # Others of its group took so long that the next tick is due.
                self._skip(job, tick)
                return
            await self._bounded(job, tick)

    async def _bounded(self, job: Job, tick: datetime) -> None:
        """One run: never raises, so that the next tick comes; cancelled only when the process stops."""
        started, started_at = time.monotonic(), self._clock()
        outcome = "failed"
        error: Exception | None = None
        deadline = asyncio.timeout(job.deadline)
        try:
            async with deadline:
                await job.call(tick)
            outcome = "ok"
        except TimeoutError as exc:
            outcome, error = ("timeout" if deadline.expired() else "failed"), exc
        except Exception as exc:  # noqa: BLE001 (whatever a job does, the others and its next run go on)
            error = exc
        finally:
            self._metrics.ran(job.name, outcome, time.monotonic() - started)
        self._report(job, outcome, error)
        if self._record is not None:
            await self._record(
                JobRun(
                    job=job.name,
                    started_at=started_at,
                    ended_at=self._clock(),
                    next_at=tick + job.interval,
                    outcome=outcome,
                    failure=None if error is None else _reason(job, outcome, error),
                )
            )

    def _report(self, job: Job, outcome: str, error: Exception | None) -> None:
        """Log changes of state, not every run: a database that is away for an hour is one event."""
        state = outcome if error is None else f"{outcome} {type(error).__name__}"
        before = self._states.get(job.name, "ok")
        self._states[job.name] = state
        if error is None:
            self._metrics.succeeded(job.name, self._clock().timestamp())
            if before != state:
                event(log, logging.INFO, JOB_RECOVERED, job=job.name, after=before)
            return
        level = logging.DEBUG if state == before else logging.ERROR
        # Ours say in a sentence what is wrong; anything else is a defect, and its traceback is needed.
        cause = None if isinstance(error, TollwatchError | TimeoutError) else error
        event(log, level, JOB_FAILED, job=job.name, outcome=outcome, error=_reason(job, outcome, error), cause=cause)


def _reason(job: Job, outcome: str, error: Exception) -> str:
    return f"no end within {job.deadline:g} s" if outcome == "timeout" else str(error) or type(error).__name__


def grace(job: Job) -> timedelta:
    """How late a run may begin: a whole interval, at least a second."""
    return max(timedelta(seconds=1), job.interval)
