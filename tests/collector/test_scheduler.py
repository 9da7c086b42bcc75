from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from collector.metrics import JobMetrics
from collector.scheduler import Job, Scheduler, grace
from store.errors import DatabaseUnavailable, SettingsError
from tests.collector.seeds import count, eventually

STEP = timedelta(milliseconds=100)


@pytest.fixture
async def scheduler(registry):
    scheduler = Scheduler(JobMetrics(registry), {"a": 4, "b": 1})
    yield scheduler
    await scheduler.stop(0)


def job(call, name="work", *, interval=STEP, deadline=5.0, group="a", at_start=True):
    return Job(name=name, interval=interval, deadline=deadline, call=call, group=group, at_start=at_start)


class Recorder:
    """A job that notes its ticks; `act(tick)` is what else it does."""

    def __init__(self, act=None):
        self.ticks = []
        self.act = act

    async def __call__(self, tick):
        self.ticks.append(tick)
        if self.act is not None:
            await self.act(tick)


async def fail(_tick):
    raise DatabaseUnavailable("the database is away")


def runs(registry, outcome, name="work"):
    return count(registry, "tollwatch_job_runs_total", job=name, outcome=outcome)


async def test_every_tick_once_on_the_grid(scheduler, registry):
    recorder = Recorder()
    scheduler.add(job(recorder))
    scheduler.start()
    await eventually(lambda: len(recorder.ticks) >= 5)
    ticks = list(recorder.ticks)
    assert len(set(ticks)) == len(ticks)
    assert all(tick.microsecond % 100_000 == 0 and tick.tzinfo is UTC for tick in ticks)
    assert abs(datetime.now(UTC) - ticks[-1]) < timedelta(seconds=10)
    assert runs(registry, "ok") >= 4


async def test_a_run_that_ends_well_leaves_its_metrics(scheduler, registry):
    scheduler.add(job(Recorder(), interval=timedelta(hours=1)))
    assert count(registry, "tollwatch_job_last_success_timestamp_seconds", job="work") == 0
    scheduler.start()
    await eventually(lambda: runs(registry, "ok"))
    assert count(registry, "tollwatch_job_duration_seconds_count", job="work") == 1
    assert count(registry, "tollwatch_job_last_success_timestamp_seconds", job="work") == pytest.approx(
        time.time(), abs=30
    )


async def test_every_outcome_has_a_series_before_the_first_run(scheduler, registry):
    scheduler.add(job(Recorder(), at_start=False))
    for outcome in ("ok", "failed", "timeout", "skipped"):
        labels = {"job": "work", "outcome": outcome}
        assert registry.get_sample_value("tollwatch_job_runs_total", labels) == 0


async def test_a_run_at_start_has_the_tick_that_was_last(scheduler):
    recorder = Recorder()
    scheduler.add(job(recorder, interval=timedelta(hours=1)))
    scheduler.start()
    (tick,) = await eventually(lambda: recorder.ticks)
    assert (tick.minute, tick.second, tick.microsecond) == (0, 0, 0)
    assert tick <= datetime.now(UTC)


async def test_a_run_that_fails_is_counted_timed_and_followed_by_the_next(scheduler, registry):
    scheduler.add(job(fail))
    scheduler.start()
    await eventually(lambda: runs(registry, "failed") >= 3)
    assert runs(registry, "ok") == 0
    assert count(registry, "tollwatch_job_duration_seconds_count", job="work") >= 3
    assert count(registry, "tollwatch_job_last_success_timestamp_seconds", job="work") == 0


async def test_a_failure_is_logged_once_and_so_is_its_end(scheduler, registry, caplog):
    caplog.set_level(logging.INFO)
    away = True

    async def work(_tick):
        if away:
            raise DatabaseUnavailable("the database is away")

    scheduler.add(job(work))
    scheduler.start()
    await eventually(lambda: runs(registry, "failed") >= 3)
    away = False
    await eventually(lambda: runs(registry, "ok") >= 2)
    told = [record for record in caplog.records if record.message in ("job_failed", "job_recovered")]
    assert [record.message for record in told] == ["job_failed", "job_recovered"]
    assert told[0].levelname == "ERROR"
    assert told[0].exc_info is None
    assert "database is away" in str(told[0].tollwatch_fields["error"])


async def test_a_defect_has_its_traceback_in_the_log(scheduler, registry, caplog):
    async def work(_tick):
        raise ZeroDivisionError

    scheduler.add(job(work))
    scheduler.start()
    await eventually(lambda: runs(registry, "failed"))
    (record, *_) = [item for item in caplog.records if item.message == "job_failed"]
    assert record.exc_info[0] is ZeroDivisionError


async def test_a_run_ends_at_its_deadline(scheduler, registry):
    async def hang(_tick):
        await asyncio.Event().wait()

    scheduler.add(job(hang, deadline=0.05))
    scheduler.start()
    await eventually(lambda: runs(registry, "timeout") >= 2)
    assert runs(registry, "failed") == 0


async def test_a_timeout_of_the_jobs_own_is_a_failure(scheduler, registry):
    async def work(_tick):
        raise TimeoutError("of something inside")

    scheduler.add(job(work))
    scheduler.start()
    await eventually(lambda: runs(registry, "failed"))
    assert runs(registry, "timeout") == 0


async def test_a_tick_during_a_run_is_skipped(scheduler, registry):
    at_once, most, done = 0, 0, asyncio.Event()

    async def work(_tick):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await done.wait()
        at_once -= 1

    recorder = Recorder(work)
    scheduler.add(job(recorder))
    scheduler.start()
    await eventually(lambda: runs(registry, "skipped") >= 3)
    assert len(recorder.ticks) == 1
    done.set()
    await eventually(lambda: len(recorder.ticks) >= 3)
    assert most == 1
    # Every tick is accounted for: it was run or skipped.
    await scheduler.stop(5)
    ticks = 1 + (recorder.ticks[-1] - recorder.ticks[0]) // STEP
    assert runs(registry, "ok") + runs(registry, "skipped") >= ticks


async def test_ticks_that_pass_while_the_loop_is_blocked_are_skipped_not_run_late(scheduler, registry):
    recorder = Recorder()
    scheduler.add(job(recorder))
    scheduler.start()
    await eventually(lambda: len(recorder.ticks) >= 2)
    before, until = len(recorder.ticks), time.monotonic() + 0.45
    while time.monotonic() < until:
        pass
    await eventually(lambda: len(recorder.ticks) >= before + 2)
    assert runs(registry, "skipped") >= 3
    ticks = 1 + (recorder.ticks[-1] - recorder.ticks[0]) // STEP
    # The newest tick may have been skipped after the newest run.
    assert ticks <= len(recorder.ticks) + runs(registry, "skipped") <= ticks + 1


async def test_one_group_does_not_wait_for_another(scheduler, registry):
    async def hang(_tick):
        await asyncio.Event().wait()

    recorder = Recorder()
    scheduler.add(job(hang, "slow", group="b", deadline=60))
    scheduler.add(job(Recorder(), "waiting", group="b"))
    scheduler.add(job(recorder, "quick"))
    scheduler.start()
    await eventually(lambda: len(recorder.ticks) >= 5)
    assert runs(registry, "ok", "waiting") == 0


async def test_a_run_that_waited_until_its_next_tick_is_skipped(registry):
    now = datetime.now(UTC)
    scheduler = Scheduler(JobMetrics(registry), {"a": 1}, clock=lambda: now)
    recorder = Recorder()
    late = job(recorder)
    scheduler.add(late)
    now += grace(late) + timedelta(milliseconds=1)
    scheduler.start()
    await eventually(lambda: runs(registry, "skipped"))
    assert recorder.ticks == []
    await scheduler.stop(0)


async def test_an_interval_that_no_machine_keeps_is_refused(scheduler):
    with pytest.raises(SettingsError, match="work"):
        scheduler.add(job(fail, interval=timedelta(0)))


async def test_stopping_waits_for_the_run_under_way(scheduler, registry):
    go, ended = asyncio.Event(), []

    async def work(tick):
        await go.wait()
        ended.append(tick)

    recorder = Recorder(work)
    scheduler.add(job(recorder))
    scheduler.start()
    await eventually(lambda: recorder.ticks)
    stopping = asyncio.create_task(scheduler.stop(30))
    await asyncio.sleep(0)
    go.set()
    await stopping
    assert len(ended) == 1
    assert runs(registry, "ok") == 1


async def test_stopping_cancels_a_run_that_does_not_end(scheduler, registry):
    async def hang(_tick):
        await asyncio.Event().wait()

    recorder = Recorder(hang)
    scheduler.add(job(recorder))
    scheduler.start()
    await eventually(lambda: recorder.ticks)
    await scheduler.stop(0.05)
    assert runs(registry, "failed") == 1
    assert count(registry, "tollwatch_job_duration_seconds_count", job="work") == 1


async def test_stopping_what_never_began_or_has_stopped(registry):
    scheduler = Scheduler(JobMetrics(registry), {"a": 1})
    await scheduler.stop(0)
    scheduler.start()
    await scheduler.stop(0)
    await scheduler.stop(0)
