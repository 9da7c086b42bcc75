"""Limits: the arithmetic of rates and shares, and what the API does at each bound."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from api.app import create_app
from api.limits import Full, Limits, Shared
from api.metrics import LimitMetrics
from api.problems import Problem
from store.deadlines import Deadlines
from store.keys import TooManyGuesses, new_key_text
from store.keys.lookup import LANES, guesser
from store.rates import Buckets
from store.settings import Settings
from tests.api.world import audit, lines, payment, send, send_raw


def metric(app, name, **labels):
    return app.state.tollwatch.registry.get_sample_value(name, labels) or 0


class TestRates:
    def test_a_burst_goes_at_once_and_then_the_rate(self):
        buckets = Buckets(10)
        for _ in range(10):
            assert buckets.wait("k", 5, 10, 0.0) == 0
            buckets.take("k", 1, 5, 10, 0.0)
        assert 0 < buckets.wait("k", 5, 10, 0.0) < 0.001
        assert buckets.wait("k", 5, 10, 0.1) == 0
        assert buckets.wait("other", 5, 10, 0.0) == 0

    def test_more_than_a_burst_goes_and_is_owed(self):
        buckets = Buckets(10)
        buckets.take("k", 1_000, 5, 10, 0.0)
        wait = buckets.wait("k", 5, 10, 0.0)
        assert wait == pytest.approx(990 / 5, abs=0.01)
        assert buckets.wait("k", 5, 10, wait - 0.1) > 0
        assert buckets.wait("k", 5, 10, wait) == 0

    def test_no_rate_is_no_limit_and_is_not_remembered(self):
        buckets = Buckets(10)
        buckets.take("k", 10**12, 0, 0, 0.0)
        assert (buckets.wait("k", 0, 0, 0.0), len(buckets)) == (0, 0)

    def test_as_many_are_remembered_as_there_is_room_for(self):
        buckets = Buckets(3)
        for key in "abcd":
            buckets.take(key, 20, 1, 10, 0.0)
        assert len(buckets) == 3
        assert (buckets.wait("a", 1, 10, 0.0), buckets.wait("d", 1, 10, 0.0) > 0) == (0, True)

    @given(
        rate=st.integers(1, 1_000),
        burst_s=st.integers(1, 10),
        asked=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3_000)), max_size=40),
    )
    def test_never_more_than_burst_and_rate_and_the_last_request(self, rate, burst_s, asked):
        buckets, now, let_in, last = Buckets(1), 0.0, 0, 0
        for pause, amount in asked:
            now += pause
            wait = buckets.wait("k", rate, rate * burst_s, now)
            if wait == 0:
                buckets.take("k", amount, rate, rate * burst_s, now)
                let_in, last = let_in + amount, amount
            else:
                assert buckets.wait("k", rate, rate * burst_s, now + wait) == 0, "Retry-After is true"
            assert let_in - last <= rate * (now + burst_s) + 0.001


class TestShared:
    async def test_first_come_first_served_also_for_a_large_one(self):
        shared, order = Shared(total=10, share=10), []

        async def hold(key, amount):
            await shared.take(key, amount, 5)
            order.append(key)

        await shared.take("a", 8, 5)
        tasks = []
        for key, amount in (("b", 9), ("c", 1), ("d", 1)):
            tasks.append(asyncio.create_task(hold(key, amount)))
            await asyncio.sleep(0)
        assert order == []
        shared.give_back("a", 8)
        await asyncio.gather(*tasks[:2])
        assert (order, shared.used) == (["b", "c"], 10)
        shared.give_back("b", 9)
        await tasks[2]
        assert (order, shared.used) == (["b", "c", "d"], 2)

    async def test_a_key_that_waits_for_its_share_holds_up_nobody(self):
        shared = Shared(total=10, share=5)
        await shared.take("a", 5, 5)
        waiting = asyncio.create_task(shared.take("a", 1, 5))
        await asyncio.sleep(0)
        await shared.take("b", 5, 5)
        with pytest.raises(Full) as full:
            await shared.take("c", 1, 0.01)
        assert full.value.by_key is False
        with pytest.raises(Full) as full:
            await shared.take("a", 1, 0.01)
        assert full.value.by_key is True
        shared.give_back("a", 5)
        await waiting
        assert shared.used == 6

    async def test_what_is_larger_than_all_waits_until_it_is_alone(self):
        shared = Shared(total=10, share=5)
        await shared.take("a", 50, 5)
        with pytest.raises(Full):
            shared.take_now("b", 1)
        shared.give_back("a", 50)
        await shared.take("b", 1, 5)
        shared.take_now("b", 4)
        with pytest.raises(Full):
            shared.take_now("b", 1)

    async def test_who_gives_up_leaves_nothing_behind(self):
        shared = Shared(total=1, share=1)
        await shared.take("a", 1, 5)
        gone, cancelled_in_time, stays = (asyncio.create_task(shared.take(key, 1, 5)) for key in "bcd")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        shared.give_back("a", 1)  # lets c in, which is cancelled before it hears of it
        cancelled_in_time.cancel()
        await asyncio.gather(cancelled_in_time, return_exceptions=True)
        await stays
        assert (shared.used, len(shared._waiting), shared._by_key) == (1, 0, {"d": 1})


class TestCharges:
    """Limits.admit, with a clock that the test moves."""

    @pytest.fixture
    def sender(self):
        def make(key_id=1, events_per_s=None, bytes_per_s=None):
            return type("Sender", (), {"key_id": key_id, "key_prefix": "tw_x", "events_per_s": events_per_s, "bytes_per_s": bytes_per_s})()  # fmt: skip

        return make

    @pytest.fixture
    def now(self):
        return [0.0]

    @pytest.fixture
    def limits(self, now):
        settings = Settings(key_events_per_s=10, key_bytes_per_s=1000, key_burst=timedelta(seconds=2))
        return Limits(settings, Deadlines(), LimitMetrics(CollectorRegistry()), monotonic=lambda: now[0])

    def test_each_key_has_its_own_and_may_have_another_limit(self, limits, sender):
        limits.admit(sender(1), events=100)
        with pytest.raises(Problem) as refused:
            limits.admit(sender(1), events=1)
        assert (refused.value.status, refused.value.code) == (429, "events_rate")
        limits.admit(sender(2), events=100)
        limits.admit(sender(3, events_per_s=1000), events=1_500)
        limits.admit(sender(3, events_per_s=1000), events=1)

    def test_retry_after_is_the_first_whole_second_that_works(self, limits, sender, now):
        limits.admit(sender(), events=55)  # 20 saved up, 35 owed
        for at in (0.0, 1.0, 2.0, 3.4):
            now[0] = at
            with pytest.raises(Problem) as refused:
                limits.admit(sender(), events=0)
            now[0] = at + int(refused.value.headers["Retry-After"])
            limits.admit(sender(), events=0)
            now[0] -= 1.1
            with pytest.raises(Problem):
                limits.admit(sender(), events=0)

    def test_what_owes_one_limit_is_not_charged_to_the_other(self, limits, sender, now):
        limits.admit(sender(), octets=5_000)
        for _ in range(10):
            with pytest.raises(Problem) as refused:
                limits.admit(sender(), events=10, octets=10)
            assert refused.value.code == "bytes_rate"
        now[0] = 10.0
        limits.admit(sender(), events=1, octets=1)

    def test_what_is_not_spoken_of_is_not_refused(self, limits, sender):
        limits.admit(sender(), events=1_000)
        limits.admit(sender(), octets=1)
        limits.admit(sender())


class TestApi:
    @pytest.fixture
    def settings(self, settings):
        return replace(settings, key_burst=timedelta(seconds=1), body_memory=2 * 1024**2, key_guesses_per_s=2)

    async def limit(self, query, clock, **limits):
        for name, value in limits.items():
            await query(f"UPDATE tollwatch.api_keys SET {name} = :value", value=value)
        clock.advance(5)

    async def test_a_limited_batch_stores_nothing_and_is_not_even_read(self, client, query, clock, counts, app):
        await self.limit(query, clock, events_per_s=10)
        await send(client, *(audit() for _ in range(20)))
        before = await counts()
        for body in (b"[", json.dumps([payment()]).encode()):
            response = await send_raw(client, body)
            assert (response.status_code, response.json()["code"]) == (429, "events_rate")
            assert response.headers["content-type"] == "application/problem+json"
            assert int(response.headers["retry-after"]) >= 1
        assert await counts() == before
        assert metric(app, "tollwatch_requests_refused_total", limit="events_rate") == 2
        assert metric(app, "tollwatch_ingest_events_total", type="audit", result="accepted", code="") == 20

    async def test_events_are_counted_whatever_they_are(self, client, query, clock):
        await self.limit(query, clock, events_per_s=10)
        response = await send_raw(client, lines(*["{}"] * 30), "application/x-ndjson")
        assert len(response.json()["rejected"]) == 30
        assert (await send_raw(client, b"[]")).status_code == 429

    async def test_bytes_are_charged_whether_announced_or_not(self, client, query, clock):
        await self.limit(query, clock, bytes_per_s=1_000)

        async def pieces():
            yield b"[" + b" " * 3_000
            yield b"]"

        assert (await send_raw(client, pieces())).status_code == 200
        response = await send_raw(client, b"[]")
        assert (response.status_code, response.json()["code"]) == (429, "bytes_rate")
        assert (await client.put("/v1/agents/a", json={})).status_code == 429
        assert (await client.get("/v1/payments")).status_code == 200

    async def test_keys_are_limited_apart(self, client, connect, make_key, query, clock):
        await self.limit(query, clock, events_per_s=1)
        await send(client, audit(), audit(), audit())
        assert (await send_raw(client, b"[]")).status_code == 429
        async with connect(Authorization=f"Bearer {await make_key()}") as other:
            await send(other, audit())

    async def test_room_and_turns_are_given_back_however_a_request_ends(self, client, app):
        held = app.state.tollwatch.limits
        for body, status in ((b"[]", 200), (b"[", 400), (b"", 400), (b"x" * 9_000_000, 413)):
            assert (await send_raw(client, body)).status_code == status
            assert (held.turns.used, held.bodies.used) == (0, 0)
        assert (await client.get("/v1/payments?limit=x")).status_code == 422
        assert held.turns.used == 0

    async def test_a_body_that_grows_beyond_the_room_is_refused(self, client, app):
        held = app.state.tollwatch.limits
        await held.bodies.take("other", 1_800_000, 1)

        async def pieces():
            for _ in range(10):
                yield b" " * 100_000

        response = await send_raw(client, pieces())
        assert (response.status_code, response.json()["code"]) == (503, "no_room")
        assert held.bodies.used == 1_800_000
        held.bodies.give_back("other", 1_800_000)

    async def test_guesses_from_an_address_are_refused_and_known_keys_work_on(self, client, connect, app, make_key):
        app.state.tollwatch.keys._monotonic = lambda: 0.0  # nothing is paid back while the test runs
        await client.get("/v1/payments")
        for _ in range(20):
            async with connect(Authorization=f"Bearer {new_key_text()}") as guesser:
                assert (await guesser.get("/v1/payments")).status_code == 401
        async with connect(Authorization=f"Bearer {new_key_text()}") as own:
            response = await own.get("/v1/payments")
        assert (response.status_code, response.json()["code"]) == (429, "too_many_guesses")
        assert int(response.headers["retry-after"]) >= 1
        assert (await client.get("/v1/payments")).status_code == 200
        assert metric(app, "tollwatch_auth_refused_total", reason="unknown") == 20
        assert metric(app, "tollwatch_auth_refused_total", reason="guesses") == 1
        with pytest.raises(TooManyGuesses):
            await app.state.tollwatch.keys.find(await make_key(), "127.0.0.1")
        assert (await app.state.tollwatch.keys.find(await make_key(), "192.0.2.7")) is not None

    async def test_guesses_leave_connections_for_everyone_else(self, app):
        keys = app.state.tollwatch.keys
        busiest = 0

        async def guess(number):
            assert await keys.find(new_key_text(), f"192.0.2.{number}") is None

        async def watch():
            nonlocal busiest
            while True:
                busiest = max(busiest, app.state.tollwatch.engine.pool.checkedout())
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(guess(number) for number in range(60)))
        watching.cancel()
        assert 1 <= busiest <= LANES


@pytest.mark.parametrize("turns", [{"max_requests": 1}, {"max_requests_per_key": 1}])
async def test_a_request_waits_for_its_turn_and_no_longer(settings, deadlines, clock, turns, make_key):
    app = create_app(replace(settings, **turns), replace(deadlines, admission=0.3), clock=clock)
    headers = {"Authorization": f"Bearer {await make_key()}", "Content-Type": "application/json"}
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slowly():
        began.set()
        yield b"["
        await go_on.wait()
        yield b"]"

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1", headers=headers
        ) as client,
    ):
        first = asyncio.create_task(client.post("/v1/events", content=slowly()))
        await began.wait()
        response = await client.get("/v1/payments")
        told = (503, "busy") if "max_requests" in turns else (429, "too_many_requests")
        assert (response.status_code, response.json()["code"]) == told
        assert response.headers["retry-after"] == "1"
        second = asyncio.create_task(client.get("/v1/payments"))
        await asyncio.sleep(0.05)
        go_on.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        assert (await client.get("/healthz")).status_code == 200


def test_an_address_is_one_host():
    assert guesser("192.0.2.1") != guesser("192.0.2.2")
    assert guesser("2001:db8::1") == guesser("2001:db8::ffff") != guesser("2001:db8:0:1::1")
    assert guesser("::ffff:192.0.2.1") != guesser("::ffff:192.0.2.2")
    assert guesser("testclient") == "testclient"
