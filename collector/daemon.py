"""The collector's life: open everything, run until a signal, finish what is in hand, close everything.

Solana nodes ──► collector.sources ──► store.writer ──► balance_samples
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

import prometheus_client
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from collector import jobs
from collector.endpoints import EndpointPool, labels
from collector.metrics import JobMetrics, SampleMetrics
from collector.rpc import SolanaRpc
from collector.scheduler import Job, Scheduler
from collector.server import serving
from collector.sources.balances import BalanceSource
from store import startup
from store.deadlines import Deadlines
from store.engine import create_engine
from store.errors import SettingsError
from store.job_runs import record_or_log
from store.logs import configure, event
from store.settings import Settings
from store.writer import FactWriter

COLLECTOR_STARTED = "collector_started"
COLLECTOR_STOPPING = "collector_stopping"
COLLECTOR_STOPPED = "collector_stopped"

SOURCES = "sources"
LIMITS = {SOURCES: 4, jobs.GROUP: 2}
"""Runs at once. Maintenance is heavy on the database, and must not keep sources waiting."""
MAINTENANCE_CONNECTIONS = LIMITS[jobs.GROUP] + 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


async def run(settings: Settings, deadlines: Deadlines) -> None:
    """Collect until SIGTERM or SIGINT. Raises SettingsError, StartRefused or DatabaseError when it cannot begin."""
    configure(settings)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    with _stop_signal() as stop:
        async with collecting(settings, deadlines):
            await stop.wait()
            event(log, logging.INFO, COLLECTOR_STOPPING)
    event(log, logging.INFO, COLLECTOR_STOPPED)


@asynccontextmanager
async def collecting(settings: Settings, deadlines: Deadlines) -> AsyncIterator[int]:
    """Everything runs inside the block; gives the port of /metrics."""
    if not settings.rpc_urls:
        raise SettingsError("no chain to watch: set TOLLWATCH_RPC_URLS to one or more Solana JSON-RPC endpoints")
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_engine(settings, deadlines, max(1, settings.pool_size)))
        edition = await startup.check(engine, settings)
        slow = await stack.enter_async_context(
            _engine(settings, deadlines, MAINTENANCE_CONNECTIONS, statement=deadlines.job_statement)
        )
        rpc = SolanaRpc(EndpointPool(settings.rpc_urls), settings.network, deadlines, registry)
        stack.push_async_callback(rpc.close)
        port = await stack.enter_async_context(serving(registry, settings.collector_host, settings.collector_port))
        scheduler = Scheduler(JobMetrics(registry), LIMITS, record=partial(record_or_log, engine))
        metrics = SampleMetrics(registry, time.time)
        writer = FactWriter(engine, deadlines)
        source = BalanceSource(engine, rpc, writer, settings, deadlines=deadlines, metrics=metrics)
        for job in [_sampling(source, settings, deadlines), *jobs.maintenance(slow, edition, settings, deadlines)]:
            scheduler.add(job)
        scheduler.start()
        stack.push_async_callback(scheduler.stop, deadlines.shutdown)
        endpoints = ",".join(labels(settings.rpc_urls))
        event(log, logging.INFO, COLLECTOR_STARTED, edition=edition, endpoints=endpoints, metrics_port=port)
        yield port


def _sampling(source: BalanceSource, settings: Settings, deadlines: Deadlines) -> Job:
    return Job(
        name=source.name,
        interval=settings.sample_interval,
        deadline=deadlines.source_run,
        call=source.run,
        group=SOURCES,
    )


@asynccontextmanager
async def _engine(
    settings: Settings, deadlines: Deadlines, size: int, statement: float | None = None
) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(settings.required_database_url, deadlines, pool_size=size, statement=statement)
    try:
        yield engine
    finally:
        await engine.dispose()


@contextmanager
def _stop_signal() -> Iterator[asyncio.Event]:
    """An event that a signal sets; also one that comes while everything is being opened."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
