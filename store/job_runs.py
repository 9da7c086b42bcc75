"""How the collector's jobs ended, kept in the database: its metrics end with the process."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from store.engine import writing
from store.errors import DatabaseError
from store.logs import event, redact
from store.named_sql import query

RUN_NOT_RECORDED = "job_run_not_recorded"
LONGEST_FAILURE = 500
"""Characters kept of why a run failed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """One run. outcome: ok, failed or timeout; `failure` says why, None where it is ok. Times are UTC."""

    job: str
    started_at: datetime
    ended_at: datetime
    next_at: datetime
    outcome: str
    failure: str | None


async def record(engine: AsyncEngine, run: JobRun) -> None:
    """Keep a run as its job's newest. Raises DatabaseError."""
    failure = None if run.failure is None else redact(" ".join(run.failure.split()))[:LONGEST_FAILURE]
    values = {
        "job": run.job,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "next_at": run.next_at,
        "outcome": run.outcome,
        "failure": failure,
    }
    async with writing(engine) as connection:
        await connection.execute(text(query("record_job_run")), values)


async def record_or_log(engine: AsyncEngine, run: JobRun) -> None:
    """The same where the run matters more than its record: a database that is away costs a line at debug."""
    try:
        await record(engine, run)
    except DatabaseError as exc:
        event(log, logging.DEBUG, RUN_NOT_RECORDED, job=run.job, error=exc)
