"""Ingest while the database is away, slow or refusing: kept on the spool, drained in order, exactly once, nothing dropped."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from api import draining, spool_service
from api.app import create_app
from api.keeper import Kept
from api.spooling import SpoolingKeeper
from store import rollups
from store.backlog import Outcome
from store.drafts import Drafts
from store.engine import create_engine
from store.errors import DatabaseConflict, DatabaseRefusedData, DatabaseTimeout, DatabaseUnavailable
from store.facts import Stored
from store.presence import AWAY, Presence
from store.spool.appender import Spool
from store.spool.folder import SpoolFolder
from store.spool.segment import HEAD_BYTES
from tests.api.gate import Gate
from tests.api.world import AGENT, address, audit, new_id, payment, queue, rejection, send, send_raw


@pytest_asyncio.fixture
async def gate(database_url):
    made = Gate(database_url)
    await made.open()
    yield made
    if made._server is not None:
        await made.shut()


@pytest.fixture
def deadlines(deadlines):
    """Short ones, where a test waits for them to pass."""
    return replace(deadlines, connect=1, pool_checkout=1, direct_write=0.3, cached_look_up=0.3, shutdown=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Looks follow each other more closely than in production."""
    monkeypatch.setattr(draining, "TICK_S", 0.02)
    monkeypatch.setattr(draining, "FAILED_S", 0.1)
    monkeypatch.setattr(spool_service, "WATCH_S", 0.05)


@pytest.fixture
def settings(settings, gate):
    return replace(settings, database_url=gate.url, spool_segment=64 * 1024, spool_max=1024**2)


@pytest_asyncio.fixture
async def query(database_url, deadlines):
    """One statement on the database itself, past the gate."""
    engine = create_engine(database_url, deadlines, pool_size=1)

    async def run(statement, **values):
        async with engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    yield run
    await engine.dispose()


async def until(ask, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not (answer := await ask()):
        assert time.monotonic() < deadline, f"{what}: still {answer!r}"
        await asyncio.sleep(0.02)
    return answer


async def spooled(client, *events):
    """POST a batch that must go to the spool whole."""
    answer = await send(client, *events)
    assert answer == {"accepted": len(events), "duplicates": None, "rejected": [], "spooled": True}
    return [event["id"] for event in events]


async def ids_in(query, relation="payments"):
    return [str(row[0]) for row in await query(f"SELECT id FROM tollwatch.{relation} ORDER BY recorded_at, id")]


def held(app):
    return app.state.tollwatch


def sample(app, name, **labels):
    return held(app).registry.get_sample_value(f"tollwatch_spool_{name}", labels)


@asynccontextmanager
async def running(settings, deadlines, clock, key=None):
    """Another process of the API, as far as it matters: its own state, spool and pool."""
    made = create_app(settings, deadlines, clock=clock)
    async with made.router.lifespan_context(made):
        transport = httpx.ASGITransport(app=made, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            client.app = made
            yield client


async def test_spooled_while_away_and_drained_when_back(client, app, gate, query):
    await send(client, payment())
    await gate.shut()
    kept = []
    for _ in range(5):
        kept += await spooled(client, payment(), payment(wallet=address(), asset=address()))
    kept += await spooled(client, audit(), queue())
    assert held(app).spool.events == 12
    assert await query("SELECT count(*) FROM tollwatch.payments") == [(1,)]
    await gate.open()
    await until(lambda: empty(app), "drained")
    assert set(kept) <= {
        *await ids_in(query),
        *await ids_in(query, "audit_events"),
        *await ids_in(query, "queue_events"),
    }
    assert await query("SELECT count(*) FROM tollwatch.payments") == [(11,)]
    answer = await send(client, payment())
    assert (answer["spooled"], answer["duplicates"]) == (False, 0)
    assert held(app).keeper.is_spooling is False


async def empty(app):
    return held(app).spool.is_empty


async def test_a_resend_of_what_was_spooled_is_a_duplicate_wherever_it_goes(client, app, gate, query):
    first = payment()
    await send(client, payment())
    await gate.shut()
    await spooled(client, first)
    await spooled(client, first)
    await gate.open()
    await until(lambda: empty(app), "drained")
    assert (await send(client, first))["duplicates"] == 1
    assert await query("SELECT count(*) FROM tollwatch.payments") == [(2,)]
    await until(lambda: asyncio.sleep(0, sample(app, "drained_events_total", result="duplicate") == 1), "counted")


async def test_a_frozen_database_costs_the_first_batch_its_deadline_and_the_others_nothing(
    client, app, gate, deadlines
):
    await send(client, payment())
    gate.freeze()
    started = time.monotonic()
    await spooled(client, payment())
    first = time.monotonic() - started
    started = time.monotonic()
    for _ in range(20):
        await spooled(client, payment())
    # A ratio within one run: twenty together wait less than the one that had to notice.
    assert time.monotonic() - started < first + deadlines.direct_write
    assert held(app).spool.events == 21
    gate.thaw()
    await until(lambda: empty(app), "drained")


async def test_a_batch_that_was_late_directly_is_stored_once(client, app, gate, query):
    await send(client, payment())
    lock = asyncio.Event()
    locked = asyncio.Event()

    async def hold(engine):
        async with engine.begin() as connection:
            await connection.execute(text("LOCK TABLE tollwatch.payments IN ACCESS EXCLUSIVE MODE"))
            locked.set()
            await lock.wait()

    engine = create_engine(held(app).settings.database_url, held(app).deadlines, pool_size=1)
    holding = asyncio.create_task(hold(engine))
    await locked.wait()
    await spooled(client, payment())  # slow: behind the lock
    lock.set()
    await holding
    await engine.dispose()
    await until(lambda: empty(app), "drained")
    await until(lambda: asyncio.sleep(0, not held(app).keeper._late), "the late write ended")
    assert await query("SELECT count(*), count(DISTINCT id) FROM tollwatch.payments") == [(2, 2)]


async def test_order_is_kept(client, app, gate, query):
    await send(client, payment())
    await gate.shut()
    payment_id, ids = new_id(), []
    for status in ("pending", "verified", "settled"):
        ids += await spooled(client, payment(payment_id=payment_id, status=status))
    await query("CREATE TABLE public.seen (id uuid, n int GENERATED ALWAYS AS IDENTITY)")
    await query(
        "CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.seen (id) SELECT id FROM added; RETURN NULL; END $$"
    )
    await query(
        "CREATE TRIGGER see AFTER INSERT ON tollwatch.payments REFERENCING NEW TABLE AS added "
        "FOR EACH STATEMENT EXECUTE FUNCTION public.see()"
    )
    held(app)  # one record, one transaction, so that their order shows
    await gate.open()
    await until(lambda: empty(app), "drained")
    assert sorted(str(row[0]) for row in await query("SELECT id FROM public.seen")) == sorted(ids)
    ((status,),) = await query("SELECT status FROM tollwatch.payment_heads WHERE payment_id = :id", id=payment_id)
    assert status == "settled"


async def test_the_next_process_drains_what_this_one_left(settings, deadlines, clock, gate, query, make_key):
    key = await make_key()
    async with running(settings, deadlines, clock, key) as first:
        assert (await first.put(f"/v1/agents/{AGENT}", json={})).status_code == 201
        await send(first, payment())
        await gate.shut()
        ids = await spooled(first, *(payment() for _ in range(7)))
    assert await query("SELECT count(*) FROM tollwatch.payments") == [(1,)]
    await gate.open()
    async with running(settings, deadlines, clock) as second:
        await until(lambda: empty(second.app), "drained")
    assert set(ids) <= set(await ids_in(query))


async def test_each_database_has_its_own_folder(settings, deadlines, clock, gate, query, make_key):
    """A spool is never drained into another database, whose projects are others."""
    key = await make_key()
    async with running(settings, deadlines, clock, key) as first:
        assert (await first.put(f"/v1/agents/{AGENT}", json={})).status_code == 201
        await send(first, payment())
        await gate.shut()
        await spooled(first, payment())
    await query("UPDATE tollwatch.schema_info SET installation = gen_random_uuid()")
    await gate.open()
    async with running(settings, deadlines, clock) as second:
        assert await empty(second.app)
    assert await query("SELECT count(*) FROM tollwatch.payments") == [(1,)]


async def test_a_full_spool_is_503_with_retry_after_and_nothing_counted(client, app, gate, settings):
    await send(client, payment())
    await gate.shut()
    bulk = {"note": "x" * 3000}
    kept = 0
    while (
        response := await send_raw(client, json.dumps([payment(metadata=bulk) for _ in range(10)]))
    ).status_code == 200:
        kept += 10
    assert (response.status_code, response.json()["code"]) == (503, "spool_full")
    assert int(response.headers["retry-after"]) >= 1
    assert "TOLLWATCH_SPOOL_MAX" in response.json()["detail"]
    assert held(app).registry.get_sample_value(
        "tollwatch_ingest_events_total", {"type": "payment", "result": "spooled", "code": ""}
    ) == kept  # fmt: skip
    assert held(app).spool.folder.usage().bytes <= settings.spool_max
    ready = await client.get("/readyz", params={"for": "ingest"})
    assert (ready.status_code, ready.json()["code"]) == (503, "spool_full")
    await until(lambda: asyncio.sleep(0, sample(app, "refused_total", reason="full")), "counted")
    assert sample(app, "has_room") == 0
    await gate.open()
    await until(lambda: empty(app), "drained")
    await until(lambda: is_ready(client), "ready again")


async def is_ready(client):
    return (await client.get("/readyz")).status_code == 200


class TestRefusedForItsContent:
    async def test_one_event_goes_to_the_quarantine_with_its_reason_and_the_others_are_stored(
        self, client, app, gate, query, settings
    ):
        await send(client, payment())
        await gate.shut()
        poison = payment(service="http://poison")
        good = await spooled(client, *(payment() for _ in range(20)), poison, *(payment() for _ in range(20)))
        good.remove(poison["id"])
        await query("ALTER TABLE tollwatch.payments ADD CHECK (service <> 'http://poison')")
        await gate.open()
        await until(lambda: empty(app), "drained")
        stored = await ids_in(query)
        assert set(good) <= set(stored)
        assert poison["id"] not in stored
        (line,) = quarantined(settings)
        assert (line["reason"], line["relation"], line["fact"]["id"]) == ("refused", "payments", poison["id"])
        assert "violates check constraint" in line["message"]
        await until(lambda: asyncio.sleep(0, sample(app, "drained_events_total", result="refused") == 1), "counted")
        assert (await send(client, payment()))["accepted"] == 1

    async def test_without_room_for_the_line_the_whole_segment_is_kept(
        self, client, app, gate, query, settings, monkeypatch
    ):
        await send(client, payment())
        await gate.shut()
        good, poison = payment(), payment(service="http://poison")
        await spooled(client, good, poison)
        await query("ALTER TABLE tollwatch.payments ADD CHECK (service <> 'http://poison')")
        monkeypatch.setattr(held(app).spool.folder, "max_bytes", 10)
        await gate.open()
        await until(lambda: empty(app), "drained")
        assert good["id"] in await ids_in(query)
        assert [path.suffix for path in quarantine(settings)] == [".seg"]

    async def test_a_symbol_that_is_gone_is_put_aside_and_an_unknown_mint_is_kept(
        self, client, app, gate, query, settings
    ):
        await send(client, payment(), payment(asset="CASH"))
        await gate.shut()
        never_seen = await send_raw(client, json.dumps([payment(asset="SOL")]))
        assert never_seen.status_code == 503, "nobody can say whether it exists"
        ids = await spooled(client, payment(asset="CASH"), payment(asset=address()), payment())
        await query("UPDATE tollwatch.assets SET symbol = 'GONE' WHERE symbol = 'CASH'")
        await gate.open()
        await until(lambda: empty(app), "drained")
        assert set(ids[1:]) <= set(await ids_in(query))
        (line,) = quarantined(settings)
        assert (line["reason"], line["asset"][1]) == ("unresolved", "CASH")

    async def test_too_many_unregistered_is_no_reason_after_acceptance(
        self, settings, deadlines, clock, gate, query, make_key
    ):
        settings = replace(settings, max_unregistered=1)
        key = await make_key()
        async with running(settings, deadlines, clock, key) as client:
            assert (await client.put(f"/v1/agents/{AGENT}", json={})).status_code == 201
            await send(client, payment())
            assert rejection(await send(client, payment(wallet=address()))) == "too_many_unregistered"
            await gate.shut()
            await spooled(client, *(payment(wallet=address()) for _ in range(4)))
            await gate.open()
            await until(lambda: empty(client.app), "drained")
        assert await query("SELECT count(*) FROM tollwatch.payments") == [(5,)]
        assert quarantine(settings) == []

    async def test_rows_of_an_erased_project_are_erased_too(self, client, app, gate, query, settings):
        await send(client, queue(), payment())
        await gate.shut()
        await spooled(client, payment(wallet=address()), audit(agent=None))
        await query(
            "TRUNCATE tollwatch.queue_events, tollwatch.queue_heads, tollwatch.payments, tollwatch.payment_heads"
        )
        for relation in ("audit_events", "wallets", "agents", "api_keys", "projects"):
            await query(
                f"DELETE FROM tollwatch.{relation} "
                + ("WHERE project_id IS NOT NULL" if relation != "projects" else "")
            )
        await gate.open()
        await until(lambda: empty(app), "drained")
        assert quarantine(settings) == []
        await until(lambda: asyncio.sleep(0, sample(app, "drained_events_total", result="erased") == 2), "counted")

    async def test_a_record_of_another_version_is_kept_whole(self, client, app, gate, query, settings):
        await send(client, payment())
        await gate.shut()
        await held(app).spool.append(b"\x81\xa7unknown\x01", 3)
        ids = await spooled(client, payment())
        await gate.open()
        await until(lambda: empty(app), "drained")
        assert ids[0] in await ids_in(query)
        assert [path.suffix for path in quarantine(settings)] == [".seg"]
        await until(lambda: asyncio.sleep(0, sample(app, "drained_events_total", result="unreadable") == 3), "counted")


def quarantine(settings):
    return sorted(settings.spool_folder.glob("*/quarantine/*"))


def quarantined(settings):
    (path,) = quarantine(settings)
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_damage_is_drained_around_counted_and_does_not_block_the_start(
    settings, deadlines, clock, gate, query, make_key
):
    key = await make_key()
    async with running(settings, deadlines, clock, key) as first:
        assert (await first.put(f"/v1/agents/{AGENT}", json={})).status_code == 201
        await send(first, payment())
        await gate.shut()
        lost = await spooled(first, payment())
        kept = await spooled(first, payment())
        path = held(first.app).spool._active.path
    data = bytearray(path.read_bytes())
    data[HEAD_BYTES + 60] ^= 1
    path.write_bytes(data)
    await gate.open()
    async with running(settings, deadlines, clock) as second:
        await until(lambda: empty(second.app), "drained")
        stored = await ids_in(query)
        assert set(kept) <= set(stored)
        assert not set(lost) & set(stored)
        assert len(quarantine(settings)) == 1
        await until(lambda: asyncio.sleep(0, sample(second.app, "damaged_segments_total", damage="corrupt")), "counted")
        assert (await second.get("/readyz")).status_code == 200


async def test_late_rows_are_not_judged_again(client, app, gate, query, clock, settings):
    """Accepted at the edge of the late window, drained days later: stored, and in the rollups."""
    await send(client, payment())
    await gate.shut()
    old = new_id((settings.late_window - timedelta(minutes=5)).total_seconds())
    await spooled(client, payment(id=old))
    clock.advance(timedelta(days=5).total_seconds())  # on community the scheduled refresh no longer looks that far back
    await until(lambda: too_old(client), "not ready")
    await gate.open()
    await until(lambda: empty(app), "drained")
    assert old in await ids_in(query)
    # Where rollups are our own, the collector's next run does it.
    await rollups.refresh(held(app).engine, held(app).edition, settings)
    ((told, summed),) = await query(
        "SELECT (SELECT count(*) FROM tollwatch.payments), (SELECT sum(payments) FROM tollwatch.payments_hourly)"
    )
    assert (told, summed) == (2, 2)


async def too_old(client):
    answer = await client.get("/readyz", params={"for": "ingest"})
    return (answer.status_code, answer.json()["code"]) == (503, "spool_too_old")


async def test_rows_that_retention_has_dropped_are_put_aside(client, app, gate, query, clock, settings):
    await send(client, queue())
    await gate.shut()
    await spooled(client, queue())
    clock.advance(settings.retain_queue.total_seconds())
    await gate.open()
    await until(lambda: empty(app), "drained")
    (line,) = quarantined(settings)
    assert line["reason"] == "expired"
    assert await query("SELECT count(*) FROM tollwatch.queue_events") == [(1,)]


async def test_ready_says_what_waits(client, gate, app):
    await send(client, payment())
    await gate.shut()
    await spooled(client, payment(), payment())
    told = await client.get("/readyz")
    assert (told.status_code, told.json()["code"]) == (503, "database_unavailable")
    assert "which holds 2" in told.json()["detail"]
    told = await client.get("/readyz", params={"for": "ingest"})
    assert (told.status_code, told.json()["status"], told.json()["spool"]["events"]) == (200, "spooling", 2)
    await until(lambda: asyncio.sleep(0, sample(app, "events") == 2), "on /metrics")
    assert sample(app, "bytes") == held(app).settings.spool_segment == sample(app, "folder_bytes")
    assert sample(app, "has_room") == 1
    await gate.open()
    await until(lambda: empty(app), "drained")
    await until(lambda: asyncio.sleep(0, sample(app, "drained_events_total", result="new") == 2), "on /metrics")


class TestCaches:
    """While the database is away names and keys are at most five minutes old; with it, thirty and five seconds."""

    async def test_an_agent_is_known_for_five_minutes(self, client, gate, clock):
        await send(client, payment())
        await gate.shut()
        for seconds, status in ((250, 200), (45, 200), (10, 503)):
            clock.advance(seconds)
            assert (await send_raw(client, json.dumps([payment()]))).status_code == status

    async def test_an_agent_never_seen_is_503_and_nothing_is_kept(self, client, gate, app):
        await send(client, payment())
        await gate.shut()
        response = await send_raw(client, json.dumps([payment(agent="stranger"), payment()]))
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert held(app).spool.is_empty

    async def test_a_change_of_an_agent_elsewhere_shows_within_half_a_minute(self, client, clock, query):
        await send(client, payment())
        await query("DELETE FROM tollwatch.wallets")
        await query("DELETE FROM tollwatch.agents")
        clock.advance(31)
        assert rejection(await send(client, payment())) == "unknown_agent"

    async def test_a_key_that_is_revoked_meanwhile_stops_when_the_database_is_back(
        self, client, gate, query, clock, app
    ):
        await send(client, payment())
        await gate.shut()
        await spooled(client, payment())
        await query("UPDATE tollwatch.api_keys SET revoked_at = :now", now=clock.now)
        await spooled(client, payment())
        await gate.open()
        await until(lambda: empty(app), "drained")
        clock.advance(5)
        assert (await send_raw(client, b"[]")).status_code == 401


class SlowBacklog:
    """A database that takes its time, and says how much."""

    seconds = patience = 5

    def __init__(self):
        self.worked, self.at_once, self.most = [], 0, 0

    async def ping(self):
        pass

    async def store(self, batch):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        started = time.monotonic()
        await asyncio.sleep(0.01)
        self.worked.append(time.monotonic() - started)
        self.at_once -= 1
        return Outcome(new=len(batch))


@pytest.mark.parametrize("busy", [True, False])
async def test_the_drain_leaves_half_of_the_time_to_live_batches(tmp_path, clock, busy):
    folder = SpoolFolder(tmp_path / "spool", max_bytes=1024**2, lock_seconds=1)
    spool = Spool(folder, segment_bytes=64 * 1024, clock=clock)
    await spool.open()
    for _ in range(5):
        await spool.append(Drafts(project_id=1).encode(), draining.BATCH_EVENTS)  # a transaction each
    paused = []

    async def sleep(seconds):
        paused.append(seconds)

    presence, backlog = Presence(clock), SlowBacklog()
    keeper = SpoolingKeeper(TestKeeper.Direct(), spool, presence, seconds=1)
    live = asyncio.create_task(asyncio.sleep(60))
    if busy:
        keeper._writing.add(live)
    assert await draining.Drainer(spool, keeper, presence, backlog, sleep=sleep).step()
    live.cancel()
    assert (len(backlog.worked), backlog.most) == (5, 1)
    assert len(paused) == (5 if busy else 0)
    assert all(pause >= worked for pause, worked in zip(paused, backlog.worked, strict=False))
    await spool.close()


class TestKeeper:
    """What is direct and what is not, with a direct keeper that fails as told."""

    class Direct:
        def __init__(self):
            self.calls, self.failure = 0, None

        async def keep(self, drafts):
            self.calls += 1
            if self.failure is not None:
                raise self.failure
            return Kept(new=Stored(new={}))

    @pytest_asyncio.fixture
    async def made(self, tmp_path, clock):
        folder = SpoolFolder(tmp_path / "spool", max_bytes=1024**2, lock_seconds=1)
        spool = Spool(folder, segment_bytes=64 * 1024, clock=clock)
        await spool.open()
        direct = self.Direct()
        presence = Presence(clock)
        yield direct, spool, presence, SpoolingKeeper(direct, spool, presence, seconds=1)
        await spool.close()

    @pytest.mark.parametrize("failure", [DatabaseUnavailable, DatabaseTimeout])
    async def test_after_a_failure_nobody_asks_until_told(self, made, failure):
        direct, _, presence, keeper = made
        direct.failure = failure()
        for _ in range(3):
            assert (await keeper.keep(Drafts(project_id=1))).new is None
        assert (direct.calls, keeper.is_spooling) == (1, True)
        assert presence.is_away == (failure is DatabaseUnavailable)
        direct.failure = None
        presence.back()
        assert (await keeper.keep(Drafts(project_id=1))).new is None
        keeper.resume()
        assert (await keeper.keep(Drafts(project_id=1))).new is not None

    async def test_a_conflict_spools_its_own_batch_only(self, made):
        direct, _, _, keeper = made
        direct.failure = DatabaseConflict()
        assert (await keeper.keep(Drafts(project_id=1))).new is None
        direct.failure = None
        assert (await keeper.keep(Drafts(project_id=1))).new is not None

    async def test_what_the_database_refuses_for_its_content_is_not_spooled(self, made):
        direct, spool, _, keeper = made
        direct.failure = DatabaseRefusedData()
        with pytest.raises(DatabaseRefusedData):
            await keeper.keep(Drafts(project_id=1))
        assert spool.is_empty

    async def test_without_news_bad_news_grow_old(self, clock):
        presence = Presence(clock)
        presence.lost(DatabaseUnavailable())
        assert presence.is_away
        clock.advance(AWAY.total_seconds() + 1)
        assert not presence.is_away
        presence.lost(DatabaseUnavailable())
        clock.advance(-3600)
        assert not presence.is_away
