"""An application with the reads and the exporter alone, and a world to read; helpers for the tests beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api import exporter, limits, problems, reads, stream
from api.dependencies import AppState
from api.keeper import DirectKeeper
from api.limits import Limits
from api.metrics import IngestMetrics, LimitMetrics
from store import rollups
from store.aged_cache import utc_now
from store.directory import Directory
from store.edition import Edition
from store.engine import create_engine
from store.facts import Facts
from store.group_writer import GroupWriter
from store.keys import Keys
from store.presence import Presence
from store.spool.appender import Spool
from store.spool.folder import SpoolFolder
from store.writer import FactWriter
from tests.keys import create_key
from tests.store.world import World, make_world


@dataclass(kw_only=True)
class Site:
    """The application, what it stands on, and who may ask."""

    app: FastAPI
    engine: AsyncEngine
    state: AppState
    world: World
    keys: dict[str, str]

    def client(self, key: str | None = "read", address: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
        """A client with one of the keys, from an address."""
        if key is not None:
            headers["Authorization"] = f"Bearer {self.keys[key]}"
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 50000)),
            base_url="http://127.0.0.1:8402",
            headers=headers,
        )

    async def get(self, path: str, key: str | None = "read", **parameters: Any) -> httpx.Response:
        """One GET."""
        asked = {name.removesuffix("_"): value for name, value in parameters.items()}
        async with self.client(key) as client:
            return await client.get(path, params=asked or None)

    async def items(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """The items of one page."""
        answer = await self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    async def write(self, **facts: Any) -> None:
        """Store facts."""
        await FactWriter(self.engine, self.state.deadlines).write(Facts(**facts))

    async def refresh(self) -> None:
        """Bring the rollups up to date, as the collector's job or TimescaleDB's own would."""
        now = utc_now()
        await rollups.refresh_range(
            self.engine, self.state.edition, self.state.settings, now - timedelta(days=20), now + timedelta(hours=1)
        )


async def make_site(settings, deadlines, edition) -> Site:
    """An application on the test's database, with the world `acme` and keys of it."""
    engine = create_engine(settings.database_url, deadlines, pool_size=6)
    registry = CollectorRegistry()
    directory = Directory(engine, settings)
    # Never opened: nothing is ingested here.
    folder = SpoolFolder(settings.spool_folder, max_bytes=settings.spool_max, lock_seconds=deadlines.spool_lock)
    state = AppState(
        settings=settings,
        deadlines=deadlines,
        engine=engine,
        edition=Edition(edition),
        directory=directory,
        keys=Keys(engine, deadlines),
        keeper=DirectKeeper(directory, GroupWriter(FactWriter(engine, deadlines), max_waiting=1_000)),
        spool=Spool(folder, segment_bytes=settings.spool_segment, clock=utc_now),
        presence=Presence(utc_now),
        registry=registry,
        ingest_metrics=IngestMetrics(registry),
        limit_metrics=LimitMetrics(CollectorRegistry()),
        limits=Limits(settings, deadlines, LimitMetrics(CollectorRegistry())),
        clock=utc_now,
    )
    app = FastAPI()
    problems.install(app)
    limits.install(app)
    app.include_router(reads.router)
    app.include_router(stream.router)
    app.include_router(exporter.router)
    app.state.tollwatch = state
    app.state.exporter = exporter.snapshots_of(state, interval=0.0, late=0.0)
    world = await make_world(engine)
    site = Site(app=app, engine=engine, state=state, world=world, keys={})
    await add_key(site, "read", "acme", "read")
    return site


async def add_key(site: Site, label: str, project: str, *scopes: str) -> None:
    """Make a key of a project under a label."""
    site.keys[label] = await create_key(
        site.state.settings, project=project, name=label, scopes=scopes, deadlines=site.state.deadlines
    )


async def add_session(site: Site, *, world: World | None = None, agent: int = 0, **values: Any) -> UUID:
    """Make a wallet session that is active; its id."""
    world = world or site.world
    session = {
        "project_id": world.project_id,
        "id": uuid4(),
        "agent_id": world.agent_ids[agent],
        "wallet_id": world.wallet_ids[agent],
        "token_hash": uuid4().bytes,
        "scope": '{"tx_limit": 3}',
        "status": "active",
        "delegated_at": utc_now() - timedelta(hours=1),
        "expires_at": utc_now() + timedelta(hours=1),
    } | values
    columns = ", ".join(session)
    parameters = ", ".join(f"CAST(:{name} AS jsonb)" if name == "scope" else f":{name}" for name in session)
    async with site.engine.begin() as connection:
        await connection.execute(
            text(f"INSERT INTO tollwatch.wallet_sessions ({columns}) VALUES ({parameters})"), session
        )
    return session["id"]


async def close_site(site: Site) -> None:
    """Let go of the database."""
    await exporter.close_snapshots(site.app)
    await site.state.keys.close()
    await site.engine.dispose()
