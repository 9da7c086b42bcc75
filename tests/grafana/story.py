"""One project's last days, told through the writer: what dashboards and analyses are tried on.

Two agents buy from three services, hour by hour. Of the first, one service breaks down (retries, a breaker that opens,
half opens and closes, attempts that are skipped); the second one's breaker opens and stays so. Claims are repeated,
and one transaction is claimed for two payments; some payments fail, are reverted, or are never heard of again. The first agent runs low, pauses, is topped up.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from store import rollups
from store.deadlines import Deadlines
from store.edition import Edition
from store.engine import create_engine
from store.facts import Facts
from store.identity import to_milliseconds
from store.roles import create_reader
from store.settings import Settings
from store.writer import FactWriter
from tests.databases import Server
from tests.store.world import World, audit, make_world, payment, queued, request, sample

HOURS = 40
"""Longer than a day and a half: two midnights at least, and every hour of the last six."""
MARKET, ORACLE, WEATHER = "https://market.example", "https://oracle.example", "https://weather.example"
PRICES = {MARKET: 20_000, ORACLE: 1_000, WEATHER: 350}
START = 5_000_000
TOP_UP = 2_000_000


@contextmanager
def told(server: Server) -> Iterator[psycopg.Connection]:
    """A connection as the reader of the story's project, in a database of its own; both are gone afterwards."""
    database = server.clone()
    url = server.url(database)
    try:
        yield from _read(url, server.edition)
    finally:
        server.drop(database)


def _read(url: str, edition: str) -> Iterator[psycopg.Connection]:
    # In a thread of its own: the caller's thread belongs to pytest-asyncio's loop.
    with ThreadPoolExecutor(1) as executor:
        reader = executor.submit(lambda: asyncio.run(_tell(url, edition))).result()
    try:
        with psycopg.connect(reader, autocommit=True) as connection:
            yield connection
    finally:
        role = sql.Identifier(conninfo_to_dict(reader)["user"])
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(sql.SQL("DROP OWNED BY {}").format(role))
            owner.execute(sql.SQL("DROP ROLE {}").format(role))


async def _tell(url: str, edition: str) -> str:
    settings, deadlines = Settings(database_url=url), Deadlines()
    engine = create_engine(url, deadlines, pool_size=1)
    project = f"story_{secrets.token_hex(4)}"
    try:
        world = await make_world(engine, name=project)
        story = Story(world, to_milliseconds(datetime.now(UTC)))
        story.tell()
        writer = FactWriter(engine, deadlines)
        for facts in (story.facts, Facts(payments=story.repeats)):
            await writer.write(facts)
        async with engine.begin() as connection:
            await connection.execute(text(_SESSION), {"p": world.project_id, "a": world.agent_ids[0]} | _session(world))
            await connection.execute(text(_RESOLUTION), {"p": world.project_id})
        await rollups.refresh(engine, Edition(edition), settings)
    finally:
        await engine.dispose()
    return await create_reader(settings, project, deadlines)


_SESSION = (
    "INSERT INTO tollwatch.wallet_sessions (project_id, id, agent_id, wallet_id, token_hash, status, scope, tx_used, "
    "delegated_at, expires_at) VALUES (:p, :id, :a, :w, :hash, 'active', CAST(:scope AS jsonb), 3, now() - interval '2 days', "
    "now() + interval '1 day')"
)
_RESOLUTION = (
    "INSERT INTO tollwatch.audit_resolutions (project_id, event_id, event_ts, resolved_at, resolved_by, note, automatic) "
    "SELECT project_id, id, ts, now(), 'ops', 'topped up', false FROM tollwatch.audit_events "
    "WHERE project_id = :p AND event_type = 'low_balance' ORDER BY ts LIMIT 1"
)


def _session(world: World) -> dict[str, object]:
    return {"id": uuid4(), "w": world.wallet_ids[0], "hash": b"story", "scope": json.dumps({"tx_limit": 10})}


@dataclass
class Story:
    """The facts, hour by hour; `repeats` are claims that others told before."""

    world: World
    now: datetime
    facts: Facts = field(default_factory=Facts)
    repeats: list = field(default_factory=list)

    def tell(self) -> None:
        """Everything, in the order of time."""
        left = [START, START]
        for hour in range(HOURS, 0, -1):
            for agent in (0, 1):
                left[agent] -= self._buy(hour, agent)
                if agent == 0 and hour == 12:
                    left[0] += TOP_UP
                self._sample(hour, agent, left[agent])
        self._breakers()
        self._incidents()

    def at(self, hours_ago: float, seconds: float = 0) -> datetime:
        """That instant, and some seconds later."""
        return to_milliseconds(self.now - timedelta(hours=hours_ago) + timedelta(seconds=seconds))

    def _buy(self, hour: int, agent: int) -> int:
        spent = 0
        for number, (service, price) in enumerate(PRICES.items()):
            charged = price + (HOURS - hour) // 20 * price // 10  # ten per cent dearer in the second half
            before = hour - 0.2 - number / 10
            if service == MARKET and hour % 3 == 0:
                spent += self._paid(before, agent, service, charged, attempt=2)
            elif service == WEATHER and hour % 5 == 0:
                self._lost(before, agent, service, charged, ("pending", "failed", "unknown", "reverted")[hour // 5 % 4])
            else:
                spent += self._paid(before, agent, service, charged)
            if service == ORACLE and agent == 1 and hour <= 5:
                skipped = {"agent": agent, "service": service, "request_id": uuid4()}
                self._attempt(before - 0.05, skipped, outcome="skipped_open", breaker_state="open", latency_ms=None)
        return spent

    def _paid(self, ago: float, agent: int, service: str, price: int, attempt: int = 1) -> int:
        """Claimed by the agent, verified by the facilitator, settled on the chain, and claimed once more; answered."""
        common = {"agent": agent, "service": service, "request_id": uuid4(), "payment_id": uuid4()}
        money = common | {"amount": price, "retry_count": attempt - 1}
        steps = (
            {"status": "pending", "origin": "agent"},
            {"status": "verified", "origin": "facilitator"},
            {
                "status": "settled",
                "origin": "chain",
                "fee_lamports": 5000,
                "signature": secrets.token_bytes(64),
                "slot": 7,
            },
        )
        for seconds, step in enumerate(steps, start=1):
            self.facts.payments.append(payment(self.world, at=self.at(ago, seconds), **money, **step))
        self.repeats.append(payment(self.world, at=self.at(ago, 4), **money))
        if attempt > 1:
            first = {"latency_ms": 2000, "error_type": "timeout", "failure_reason": "no answer within 2 s"}
            self._attempt(ago, common | {"payment_id": None}, outcome="retrying", **first)
        answer = {"response_status": 200, "response_bytes": 900, "latency_ms": 80 + 40 * agent}
        self._attempt(ago + 4 / 3600, common, attempt=attempt, paid=True, backoff_ms=250 * (attempt - 1), **answer)
        return price

    def _lost(self, ago: float, agent: int, service: str, price: int, end: str) -> None:
        common = {"agent": agent, "service": service, "request_id": uuid4(), "payment_id": uuid4()}
        why = {"error_type": "rejected", "failure_reason": "simulation failed"}
        self.facts.payments.append(payment(self.world, at=self.at(ago), status="pending", amount=price, **common))
        if end != "pending":
            origin = "chain" if end == "reverted" else "agent"
            last = payment(self.world, at=self.at(ago, 5), status=end, origin=origin, amount=price, **common, **why)
            self.facts.payments.append(last)
        self._attempt(ago, common, outcome="failed", paid=True, latency_ms=300, **why)

    def _attempt(self, ago: float, common: dict, **more: object) -> None:
        breaker = {"component": common["service"], "breaker_state": "closed"}
        self.facts.api_requests.append(request(self.world, at=self.at(ago), **common, **(breaker | more)))

    def _sample(self, hour: int, agent: int, left: int) -> None:
        """A balance in USDC, and one in CASH that is below its threshold from ten hours ago on."""
        at, slot = self.at(hour - 0.9), (HOURS - hour + 1) * 9000
        cash = 500_000 if hour > 10 else 4_000
        self.facts.balance_samples += [
            sample(self.world, left, slot, at=at, agent=agent),
            sample(self.world, cash, slot, at=at, agent=agent, asset="CASH"),
        ]

    def _breakers(self) -> None:
        """Agent 0's breaker goes round twice; agent 1's has been open for five hours."""
        for agent, component, hours, change in (
            (0, MARKET, 30, "opened"),
            (0, MARKET, 29.5, "half_opened"),
            (0, MARKET, 29.4, "closed"),
            (0, MARKET, 4, "opened"),
            (0, MARKET, 3.5, "half_opened"),
            (0, MARKET, 3.2, "closed"),
            (1, ORACLE, 4.9, "opened"),
        ):
            severity = "warning" if change == "opened" else "info"
            self._event(f"breaker_{change}", hours, agent, component=component, severity=severity)

    def _incidents(self) -> None:
        self._event("top_up_requested", 13, 0)
        self._event("topped_up", 12, 0, details=json.dumps({"asset": "USDC", "amount": str(TOP_UP)}))
        self._event("topped_up", 2.5, 1)
        self._event("paused", 4, 0, severity="error", details=json.dumps({"reason": "low on CASH"}))
        self._event("resumed", 3.9, 0)
        self._event("paused", 1.5, 1, severity="error", details=json.dumps({"reason": "low on CASH"}))
        self._event("payment_failure", 2, 0, severity="warning")
        settled = next(told for told in self.facts.payments if told.signature is not None)
        self.repeats.append(
            payment(self.world, at=self.at(1), agent=1, amount=settled.amount, signature=settled.signature)
        )
        self.facts.queue_events += [
            queued(self.world, at=self.at(2), agent=1, priority_score=0.9),
            queued(self.world, at=self.at(1), agent=0, reason="breaker", priority_score=0.2),
            queued(self.world, at=self.at(3), agent=0, state="dropped"),
        ]

    def _event(self, event_type: str, hours: float, agent: int, **more: object) -> None:
        self.facts.audit_events.append(audit(self.world, event_type, at=self.at(hours), agent=agent, **more))
