"""A project with agents and wallets, and facts about them, for tests of the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import text

from store.facts import ApiRequest, AuditEvent, BalanceSample, Payment, QueueEvent
from store.identity import to_milliseconds, uuid7
from store.settings import SOLANA_MAINNET


@dataclass(frozen=True)
class World:
    project_id: int
    agent_ids: tuple[int, ...]
    wallet_ids: tuple[int, ...]
    assets: dict[str, int]


async def make_world(engine, name="acme", agents=2):
    """One project, `agents` agents, each with one registered wallet."""
    async with engine.begin() as connection:

        async def one(sql, **values):
            return (await connection.execute(text(sql), values)).scalar_one()

        project = await one("INSERT INTO tollwatch.projects (name) VALUES (:name) RETURNING id", name=name)
        agent_ids, wallet_ids = [], []
        for i in range(agents):
            agent = await one(
                "INSERT INTO tollwatch.agents (project_id, name, network) VALUES (:project, :name, :network) RETURNING id",
                project=project,
                name=f"agent-{i}",
                network=SOLANA_MAINNET,
            )
            wallet = await one(
                "INSERT INTO tollwatch.wallets (project_id, agent_id, network, address, address_text, registered) "
                "VALUES (:project, :agent, :network, :address, :shown, true) RETURNING id",
                project=project,
                agent=agent,
                network=SOLANA_MAINNET,
                address=bytes([project % 256, i]) * 16,
                shown=f"wallet-{name}-{i}",
            )
            agent_ids.append(agent)
            wallet_ids.append(wallet)
        rows = await connection.execute(
            text("SELECT symbol, id FROM tollwatch.assets WHERE network = :network"), {"network": SOLANA_MAINNET}
        )
        return World(project, tuple(agent_ids), tuple(wallet_ids), {row.symbol: row.id for row in rows})


def moment(seconds_ago=60.0):
    return to_milliseconds(datetime.now(UTC) - timedelta(seconds=seconds_ago))


def payment(world, *, at=None, status="settled", amount=1000, payment_id=None, agent=0, origin="agent", **more):
    at = at or moment()
    values = {
        "project_id": world.project_id,
        "ts": at,
        "id": uuid7(at),
        "origin": origin,
        "payment_id": payment_id or uuid4(),
        "agent_id": world.agent_ids[agent],
        "wallet_id": world.wallet_ids[agent],
        "status": status,
        "amount": amount,
        "asset_id": world.assets["USDC"],
        "service": "http://market",
    }
    return Payment(**(values | more))


def request(world, *, at=None, agent=0, **more):
    at = at or moment()
    values = {
        "project_id": world.project_id,
        "ts": at,
        "id": uuid7(at),
        "origin": "agent",
        "request_id": uuid4(),
        "max_retries": 3,
        "agent_id": world.agent_ids[agent],
        "service": "http://market",
        "outcome": "ok",
        "latency_ms": 12,
    }
    return ApiRequest(**(values | more))


def audit(world, event_type, *, at=None, agent=0, **more):
    at = at or moment()
    values = {
        "project_id": world.project_id,
        "ts": at,
        "id": uuid7(at),
        "origin": "agent",
        "event_type": event_type,
        "severity": "info",
        "agent_id": world.agent_ids[agent],
    }
    return AuditEvent(**(values | more))


def queued(world, *, at=None, agent=0, state="queued", **more):
    at = at or moment()
    values = {
        "project_id": world.project_id,
        "ts": at,
        "id": uuid7(at),
        "origin": "agent",
        "agent_id": world.agent_ids[agent],
        "request_id": uuid4(),
        "state": state,
        "reason": "funds",
    }
    return QueueEvent(**(values | more))


def sample(world, amount, slot, *, at=None, agent=0, asset="USDC", **more):
    values = {
        "project_id": world.project_id,
        "wallet_id": world.wallet_ids[agent],
        "asset_id": world.assets[asset],
        "ts": at or moment(),
        "agent_id": world.agent_ids[agent],
        "amount": amount,
        "slot": slot,
        "commitment": "confirmed",
        "origin": "collector",
    }
    return BalanceSample(**(values | more))


async def rows(engine, sql, **values):
    """All rows of a statement, as tuples."""
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(sql), values)]
