from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from collector.jobs import maintenance
from store.edition import Edition
from store.engine import create_engine
from store.errors import DatabaseUnavailable
from store.settings import Settings


def test_what_is_due_when(deadlines):
    settings = Settings(rollup_interval=timedelta(seconds=7))
    jobs = {job.name: job for job in maintenance(None, Edition.PLAIN, settings, deadlines)}
    assert {name: job.interval for name, job in jobs.items()} == {
        "rollups": timedelta(seconds=7),
        "partitions": timedelta(hours=1),
        "retention": timedelta(hours=1),
        "totals": timedelta(minutes=5),
        "heads": timedelta(hours=1),
    }
    assert all(job.at_start and job.deadline >= deadlines.job_statement for job in jobs.values())


async def test_every_job_runs_on_every_edition(engine, edition, settings, deadlines):
    for job in maintenance(engine, Edition(edition), settings, deadlines):
        await job.call(datetime.now(UTC))
        await job.call(datetime.now(UTC))


async def test_a_job_whose_database_is_away_fails(deadlines):
    engine = create_engine("postgresql://nobody@127.0.0.1:9/none", deadlines)
    for job in maintenance(engine, Edition.PLAIN, Settings(), deadlines):
        with pytest.raises(DatabaseUnavailable):
            await job.call(datetime.now(UTC))
    await engine.dispose()
