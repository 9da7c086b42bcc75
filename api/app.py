"""The application: what it holds open, and which routes it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import limits, problems
from api.admin import router as admin_router
from api.dependencies import AppState
from api.exporter import close_snapshots
from api.exporter import router as exporter_router
from api.health import router as health_router
from api.ingest import router as ingest_router
from api.keeper import DirectKeeper
from api.limits import Limits
from api.metrics import IngestMetrics, LimitMetrics, SpoolMetrics
from api.page import router as page_router
from api.reads import router as reads_router
from api.registry import router as registry_router
from api.resolutions import router as resolutions_router
from api.schemas import router as schemas_router
from api.sessions import router as sessions_router
from api.spool_service import SpoolOptions, spooling
from api.stream import close as close_streams
from api.stream import router as stream_router
from store import startup
from store.aged_cache import Clock, utc_now
from store.deadlines import Deadlines
from store.directory import Directory
from store.engine import create_engine
from store.group_writer import GroupWriter
from store.keys import Keys
from store.presence import Presence
from store.settings import Settings
from store.writer import FactWriter


def create_app(settings: Settings, deadlines: Deadlines, *, clock: Clock = utc_now) -> FastAPI:
    """The application. Nothing is open until its lifespan begins, which raises StartRefused and DatabaseError."""
    app = FastAPI(
        title="Tollwatch (sandbox)" if settings.sandbox else "Tollwatch",
        version=version("tollwatch-server"),
        description="The flight recorder for agents that pay for APIs with x402 on Solana.",
        lifespan=_lifespan(settings, deadlines, clock),
    )
    problems.install(app)
    limits.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    return app


_ROUTERS = (
    ingest_router,
    registry_router,
    sessions_router,
    resolutions_router,
    admin_router,
    reads_router,
    stream_router,
    exporter_router,
    schemas_router,
    health_router,
    page_router,
)
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def _lifespan(settings: Settings, deadlines: Deadlines, clock: Clock) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, deadlines, clock) as state:
            app.state.tollwatch = state
            yield
            await close_snapshots(app)
            await close_streams(app)

    return lifespan


@asynccontextmanager
async def opened(settings: Settings, deadlines: Deadlines, clock: Clock) -> AsyncIterator[AppState]:
    """The state of one process: everything that has to be closed is opened here."""
    engine = create_engine(settings.required_database_url, deadlines, pool_size=settings.pool_size)
    presence = Presence(clock)
    keys = Keys(engine, deadlines, clock, presence=presence, guesses_per_s=settings.key_guesses_per_s)
    directory = Directory(engine, settings, clock, deadlines=deadlines, presence=presence)
    registry = CollectorRegistry()
    ingest_metrics = IngestMetrics(registry)
    ingest_metrics.watch(lambda: writer.waiting)
    limit_metrics = LimitMetrics(registry)
    writer = GroupWriter(FactWriter(engine, deadlines), max_waiting=settings.ingest_queue)
    direct = DirectKeeper(directory, writer)
    try:
        edition = await startup.check(engine, settings)
        options = SpoolOptions(
            settings=settings,
            deadlines=deadlines,
            clock=clock,
            edition=edition,
            installation=await startup.installation(engine),
        )
        async with spooling(options, direct, presence, SpoolMetrics(registry)) as service:
            yield AppState(
                settings=settings,
                deadlines=deadlines,
                engine=engine,
                edition=edition,
                directory=directory,
                keys=keys,
                keeper=service.keeper,
                spool=service.spool,
                presence=presence,
                registry=registry,
                ingest_metrics=ingest_metrics,
                limit_metrics=limit_metrics,
                limits=Limits(settings, deadlines, limit_metrics, clock=clock),
                clock=clock,
            )
    finally:
        await writer.close()
        await keys.close()
        await engine.dispose()
