"""The API on a database of the test's own: the real application, its lifespan, real HTTP semantics, our clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from api.app import create_app
from store.tables import SCOPES
from tests.api.statements import check, watching
from tests.api.world import AGENT, PROJECT, WALLET
from tests.keys import create_key


@pytest.fixture(autouse=True)
def requests(monkeypatch):
    """Every request of the test and the statements that it sent; one that repeats itself fails the test."""
    with watching(monkeypatch) as seen:
        yield seen
    check(seen)


class Clock:
    """Stands still at the test's beginning, unless a test moves it."""

    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest_asyncio.fixture
async def app(settings, deadlines, clock):
    made = create_app(settings, deadlines, clock=clock)
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
def engine(app):
    return app.state.tollwatch.engine


@pytest.fixture
def query(engine):
    """One SQL statement, committed; its rows."""

    async def run(statement, **values):
        async with engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    return run


@pytest.fixture
def make_key(settings, deadlines):
    async def make(*scopes, project=PROJECT):
        return await create_key(settings, project=project, name="test", scopes=scopes or SCOPES, deadlines=deadlines)

    return make


@pytest.fixture
def connect(app):
    """A client without a key; close it, or use it as a context manager."""

    def make(**headers):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)

    return make


@pytest_asyncio.fixture
async def anonymous(connect):
    async with connect() as client:
        yield client


@pytest_asyncio.fixture
async def client(connect, make_key):
    """A client with every scope, whose agent and wallet are registered."""
    async with connect(Authorization=f"Bearer {await make_key()}") as made:
        assert (await made.put(f"/v1/agents/{AGENT}", json={})).status_code == 201
        assert (await made.put(f"/v1/agents/{AGENT}/wallets/{WALLET}", json={})).status_code == 201
        yield made


@pytest.fixture
def counts(query):
    """Rows of every relation that ingest could touch."""

    async def read():
        relations = ("payments", "api_requests", "audit_events", "balance_samples", "payment_heads", "balance_heads",
                     "payment_settlements", "breaker_heads", "queue_events", "queue_heads", "wallets", "assets")  # fmt: skip
        return {name: (await query(f"SELECT count(*) FROM tollwatch.{name}"))[0][0] for name in relations}

    return read
