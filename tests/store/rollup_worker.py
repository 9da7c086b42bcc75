"""A process that refreshes, folds, prunes and drops as fast as it can, until it is killed: `rollup_worker.py URL`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from sqlalchemy import event

from store import heads, retention, rollups, startup, totals
from store.deadlines import Deadlines
from store.edition import Edition
from store.engine import create_engine
from store.errors import DatabaseError
from store.settings import Settings


async def work(url: str) -> None:
    settings = Settings(database_url=url)
    engine = create_engine(url, Deadlines(), pool_size=2, statement=60)
    # So that whoever kills this process can end its server processes too.
    event.listen(engine.sync_engine, "connect", lambda raw, _: raw.cursor().execute("SET application_name = 'worker'"))
    edition = await startup.check(engine, settings)
    print("ready", flush=True)  # noqa: T201 (to whoever kills it)
    while True:
        try:
            if edition is Edition.COMMUNITY:  # what its policies do: the suite's servers run no jobs
                now = datetime.now(UTC)
                await rollups.refresh_range(engine, edition, settings, now - settings.rollup_window, now)
            for job in (rollups.refresh, totals.fold, heads.prune, retention.expire):
                await job(engine, edition, settings)
        except DatabaseError as exc:
            print(exc, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
