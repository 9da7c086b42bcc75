"""Makes the data that the benches read: three relations of `size` rows over 30 days and 1,000 agents, from a seed.

Rows are made by the server itself (bench/data.sql), past the writer; heads follow from the facts, rollups and totals
are the product's own refresh and fold, and on community TimescaleDB's own job turns old chunks into columnstore.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.common import PATIENT, PROJECT, patient_engine
from store import migrate, rollups, totals
from store.edition import Edition
from store.engine import reading, wrap_errors, writing
from store.errors import DatabaseError
from store.horizons import RELATIONS
from store.named_sql import query, split
from store.settings import SOLANA_MAINNET, Settings

VERSION = 3
KEPT = timedelta(hours=12)
"""Data whose end is older is made anew: some reads look at the last hours before now."""
BLOCK = 20
"""Rows of a whole number of requests and payments."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the data follows from. `digests`: share of the answered attempts that carry the digest of the answer."""

    size: int
    seed: int = 8402
    agents: int = 1000
    days: int = 30
    digests: float = 0.0
    incidents: int = 3000
    version: int = VERSION

    @property
    def requests(self) -> int:
        """How many logical requests the attempts belong to."""
        return self.size // BLOCK * 17

    @property
    def text(self) -> str:
        """To compare with what a database was made as."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class World:
    """What was made: its project, its range, the names in it."""

    recipe: Recipe
    project_id: int
    start: datetime
    end: datetime


@cache
def statements() -> Mapping[str, str]:
    """The named statements of data.sql."""
    source = Path(__file__).with_name("data.sql").read_text(encoding="utf-8")
    return {item.name: item.text for item in split(source, "data.sql")}


def bound(source: str, values: Mapping[str, object]) -> TextClause:
    """A statement with those of the values that it has parameters for."""
    found = text(source)
    return found.bindparams(**{name: values[name] for name in found.compile().params})


async def ensure(settings: Settings, edition: Edition, recipe: Recipe) -> World:
    """The data of a recipe: what is there, if it is that and fresh; else everything is dropped and made anew."""
    engine = patient_engine(settings)
    try:
        found = await _find(engine, recipe)
        if found is None:
            await _empty(engine, edition, settings)
            maker = await _Maker.start(engine, edition, settings, recipe)
            found = await maker.make()
        return found
    finally:
        await engine.dispose()


async def _find(engine: AsyncEngine, recipe: Recipe) -> World | None:
    async with writing(engine) as connection:
        for name in ("make_schema", "make_made"):
            await connection.execute(text(statements()[name]))
        row = (await connection.execute(text(statements()["made"]))).one_or_none()
        project_id = (await connection.execute(text(query("project_id")), {"name": PROJECT})).scalar_one_or_none()
    if row is None or project_id is None or row.recipe != recipe.text or row.end_ts < datetime.now(UTC) - KEPT:
        return None
    return World(recipe=recipe, project_id=project_id, start=row.start_ts, end=row.end_ts)


async def _empty(engine: AsyncEngine, edition: Edition, settings: Settings) -> None:
    """A schema with nothing in it: what was there is the benches' own."""
    async with reading(engine) as connection:
        if not (await connection.execute(text(query("project_exists")), {"name": PROJECT})).scalar_one():
            return
    for attempts_left in reversed(range(10)):
        try:
            if edition is Edition.COMMUNITY:
                async with writing(engine) as connection:
                    await connection.execute(text(statements()["schedule_jobs"]), {"scheduled": False})
            await migrate.downgrade(settings, PATIENT)
            break
        except DatabaseError:  # a job of TimescaleDB is at work on what is being dropped
            if not attempts_left:
                raise
            await asyncio.sleep(1)
    await migrate.upgrade(settings, PATIENT)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    engine: AsyncEngine
    edition: Edition
    settings: Settings
    world: World
    values: Mapping[str, Any]

    @classmethod
    async def start(cls, engine: AsyncEngine, edition: Edition, settings: Settings, recipe: Recipe) -> _Maker:
        """Names, prices and partitions: all that comes before facts."""
        end = datetime.now(UTC).replace(second=0, microsecond=0)
        world = World(recipe=recipe, project_id=0, start=end - timedelta(days=recipe.days), end=end)
        maker = cls(engine=engine, edition=edition, settings=settings, world=world, values={})
        for name in ("hash", "uniform", "v7", "asked_at", "agent_of", "resource_of", "recorded"):
            await maker.run(f"make_{name}")
        await maker.run("forget_made")
        await maker.run("drop_resources")
        await maker.run("make_resources")
        await maker._schedule(scheduled=False)
        project_id = await maker.one("make_project", project=PROJECT)
        values: dict[str, Any] = {"project_id": project_id, "agents": recipe.agents, "network": SOLANA_MAINNET}
        values |= {"start_ts": world.start, "end_ts": world.end, "requests": recipe.requests}
        values["agent0"] = await maker.one("make_agents", **values)
        values["wallet0"] = await maker.one("make_wallets", **values)
        for symbol in ("USDC", "CASH"):
            values[symbol.lower()] = await maker.one("asset", network=SOLANA_MAINNET, symbol=symbol)
        await maker.run("make_thresholds", **values)
        await maker.run("make_sessions", **values)
        return replace(maker, world=replace(world, project_id=project_id), values=values)

    async def make(self) -> World:
        """Everything, in the order in which one thing follows from another."""
        recipe, world = self.world.recipe, self.world
        await self._partitions()
        ticks = max(1, recipe.size // recipe.agents)
        step_ms = int((world.end - world.start) / timedelta(milliseconds=1)) // ticks
        few = max(4, recipe.size // 100)
        await asyncio.gather(
            self._slices("make_payments", recipe.size),
            self._slices("make_api_requests", recipe.size, digests=recipe.digests),
            self._slices("make_balance_samples", ticks, step_ms=step_ms),
            self._rest(few),
        )
        self._say("facts are there; heads")
        await self._alone("analyze_facts")
        await asyncio.gather(
            self._payment_heads(),
            self._settlements(),
            self._other_heads(world.end - 3 * timedelta(milliseconds=step_ms)),
        )
        self._say("rollups and totals")
        await rollups.refresh_range(
            self.engine, self.edition, self.settings, world.start, world.end + timedelta(days=1)
        )
        await totals.fold(self.engine, self.edition, self.settings)
        if self.edition is Edition.COMMUNITY:
            self._say("columnstore")
            async with reading(self.engine) as connection:
                jobs = (await connection.execute(text(statements()["column_jobs"]))).scalars().all()
            for job in jobs:
                await self._alone("run_job", job_id=job)
        await self._alone("analyze")
        await self._schedule(scheduled=True)
        await self.run("remember_made", recipe=recipe.text, start_ts=world.start, end_ts=world.end)
        return world

    async def _rest(self, few: int) -> None:
        await self._slices("make_audit_events", few, events=few)
        await self.run("make_incidents", **self.values, incidents=self.world.recipe.incidents)
        await self._slices("make_queue_events", few // 2, events=few // 2)

    async def _slices(self, name: str, rows: int, **more: object) -> None:
        """A relation day by day, or so, that no transaction is too large."""
        parts = min(self.world.recipe.days, 1 + self.world.recipe.size // 10_000)
        bounds = [rows * part // parts // BLOCK * BLOCK for part in range(parts)] + [rows]
        for from_n, to_n in itertools.pairwise(bounds):
            if to_n > from_n:
                await self.run(name, **self.values, **more, from_n=from_n, to_n=to_n)
        self._say(name)

    async def _partitions(self) -> None:
        if self.edition is not Edition.PLAIN:
            return
        for relation in RELATIONS:
            values = {"relation": relation.name, "step": relation.chunk_interval}
            async with writing(self.engine) as connection:
                within = {"from_ts": self.world.start, "to_ts": self.world.end + timedelta(days=14)}
                await connection.execute(text(query("ensure_partitions")), values | within)

    def _dates(self) -> Iterator[tuple[datetime, datetime]]:
        """Every day of the data, from its first instant on."""
        for day in range(self.world.recipe.days + 1):
            from_ts = self.world.start + timedelta(days=day)
            yield from_ts, from_ts + timedelta(days=1)

    async def _payment_heads(self) -> None:
        for from_ts, to_ts in self._dates():
            ids = {"from_id": _lowest_id(from_ts), "to_id": _lowest_id(to_ts)}
            await self.run("make_payment_heads", **self.values, from_ts=from_ts, to_ts=to_ts, **ids)

    async def _settlements(self) -> None:
        for from_ts, to_ts in self._dates():
            await self.run("make_settlements", **self.values, from_ts=from_ts, to_ts=to_ts)

    async def _other_heads(self, newest: datetime) -> None:
        await self.run("make_balance_heads", **self.values, from_ts=newest)
        await self.run("make_breaker_heads", **self.values)
        await self.run("make_queue_heads", **self.values)

    async def _schedule(self, *, scheduled: bool) -> None:
        if self.edition is Edition.COMMUNITY:
            await self.run("schedule_jobs", scheduled=scheduled)

    async def run(self, name: str, **values: object) -> None:
        """One statement in a transaction of its own; parameters that it does not have are left out."""
        async with writing(self.engine) as connection:
            await connection.execute(self._bound(name, values))

    async def one(self, name: str, **values: object) -> Any:
        """The one value that a statement returns."""
        async with writing(self.engine) as connection:
            return (await connection.execute(self._bound(name, values))).scalar_one()

    async def _alone(self, name: str, **values: object) -> None:
        with wrap_errors():
            async with self.engine.connect() as connection:
                autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await autocommit.execute(self._bound(name, values))

    def _bound(self, name: str, values: Mapping[str, object]) -> Any:
        recipe = self.world.recipe
        source = statements()[name]
        constants = {
            "seed": recipe.seed,
            "agents": recipe.agents,
            "requests": recipe.requests,
            "start_s": int(self.world.start.timestamp()),
            "seconds": int((self.world.end - self.world.start).total_seconds()),
            "network": SOLANA_MAINNET,
        }
        for key, value in constants.items():
            source = source.replace("{" + key + "}", str(value))
        return bound(source, values)

    def _say(self, what: str) -> None:
        sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")


def _lowest_id(moment: datetime) -> UUID:
    return UUID(int=int(moment.timestamp() * 1000) << 80)
