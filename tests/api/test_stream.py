"""The stream: what is told, to whom, and how it ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest_asyncio
from sqlalchemy import text

from api import stream
from api.stream_feeds import Limits
from store.errors import DatabaseUnavailable
from tests.api.test_reads_tools import add_key, close_site, make_site
from tests.api.test_stream_tools import listening
from tests.store.world import audit, make_world, moment, payment, sample

NEVER = 3600.0


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    made.app.state.feeds = stream.make_feeds(made.state, Limits(poll=NEVER))
    yield made
    await stream.close(made.app)
    await close_site(made)


async def look(site, world=None):
    """What the feed does every second."""
    await site.app.state.feeds._feeds[(world or site.world).project_id].look()


async def test_the_present_state_comes_first_and_then_what_is_new(site):
    first = payment(site.world)
    await site.write(payments=[first], balance_samples=[sample(site.world, 10**6, 1, at=moment(120))])
    async with listening(site) as client:
        assert client.status == 200
        assert client.headers["content-type"].startswith("text/event-stream")
        assert client.headers["cache-control"] == "no-store"
        hello = await client.event()
        assert hello.name == "hello"
        assert [item["id"] for item in hello.data["payments"]] == [str(first.id)]
        assert [(item["amount"], item["runway_hours"]) for item in hello.data["balances"]] == [("1000000", None)]
        assert (hello.data["audit"], hello.data["breakers"]) == ([], [])

        fresh = payment(site.world, status="failed", error_type="timeout", amount=7)
        opened = audit(site.world, "breaker_opened", component="rpc")
        await site.write(
            payments=[fresh, payment(site.world, payment_id=first.payment_id)],  # a repeat is no news
            audit_events=[opened],
            balance_samples=[sample(site.world, 900_000, 2, at=moment(60))],
        )
        await look(site)
        told = {event.name: event.data for event in [await client.event() for _ in range(4)]}
        [item] = told["payments"]["items"]
        assert (item["id"], item["status"], item["amount"], item["error_type"]) == (
            str(fresh.id),
            "failed",
            "7",
            "timeout",
        )
        assert "metadata" not in item
        assert [(item["amount"], item["outflow"]) for item in told["balances"]["items"]] == [("900000", "100000")]
        assert told["balances"]["items"][0]["runway_hours"] is not None
        assert [item["id"] for item in told["audit"]["items"]] == [str(opened.id)]
        assert [(item["component"], item["state"]) for item in told["breakers"]["items"]] == [("rpc", "open")]
        assert not any(data["more"] for data in told.values())

        await look(site)  # nothing new: nothing told
        await site.write(audit_events=[audit(site.world, "breaker_closed", component="rpc", at=moment(1))])
        await look(site)
        assert {(await client.event()).name, (await client.event()).name} == {"audit", "breakers"}


async def test_a_feed_looks_by_itself(site):
    site.app.state.feeds = stream.make_feeds(site.state, Limits(poll=0.01))
    async with listening(site) as client:
        assert (await client.event()).name == "hello"
        for status in ("pending", "settled"):
            await site.write(payments=[payment(site.world, status=status)])
            event = await client.event()
            assert [item["status"] for item in event.data["items"]] == [status]


async def test_more_than_an_event_holds_is_said(site):
    async with listening(site) as client:
        await client.event()
        await site.write(payments=[payment(site.world) for _ in range(201)])
        await look(site)
        event = await client.event()
        assert (len(event.data["items"]), event.data["more"]) == (200, True)


async def test_too_many_listeners_are_refused_until_one_leaves(site):
    site.app.state.feeds = stream.make_feeds(site.state, Limits(poll=NEVER, listeners=3, of_project=2))
    await make_world(site.engine, name="other")
    await add_key(site, "other", "other", "read")
    async with listening(site), listening(site, key="other"):
        async with listening(site):
            for key in ("read", "other"):  # one project has its fill; the process too
                refused = await site.get("/v1/stream", key=key)
                assert refused.status_code == 503
                assert refused.json()["code"] == "too_many_listeners"
                assert "retry-after" in refused.headers
        async with listening(site) as client:
            assert client.status == 200


async def test_a_key_is_needed_and_one_that_was_revoked_hears_no_more(site):
    await add_key(site, "ingest", "acme", "ingest")
    assert (await site.get("/v1/stream", key=None)).status_code == 401
    assert (await site.get("/v1/stream", key="ingest")).status_code == 403
    async with listening(site) as client:
        await client.event()
        async with site.engine.begin() as connection:
            await connection.execute(text("UPDATE tollwatch.api_keys SET revoked_at = now() WHERE name = 'read'"))
        now = site.state.keys._clock
        site.state.keys._clock = lambda: now() + timedelta(seconds=60)
        await site.write(payments=[payment(site.world)])
        await look(site)
        assert await client.event() is None
        await client.ended()
    assert not site.app.state.feeds._feeds[site.world.project_id].listeners


async def test_a_client_that_does_not_read_is_given_up(site):
    site.app.state.feeds = stream.make_feeds(site.state, Limits(poll=NEVER, send=0.05))
    async with listening(site, reads=False) as client:
        await client.ended()
    assert not site.app.state.feeds._feeds[site.world.project_id].listeners


async def test_heartbeats_go_on_while_the_database_is_away(site):
    site.app.state.feeds = feeds = stream.make_feeds(site.state, Limits(poll=0.01, heartbeat=0.01))
    looked = asyncio.Event()
    working = feeds._read

    async def away(project_id, before):
        looked.set()
        raise DatabaseUnavailable

    async with listening(site) as client:
        await client.event()
        feed = feeds._feeds[site.world.project_id]
        feed._read = away
        async with asyncio.timeout(5):
            await looked.wait()
        while await client.raw() != stream.HEARTBEAT:
            pass
        await site.write(payments=[payment(site.world)])
        feed._read = working
        assert (await client.event()).name == "payments"


async def test_a_process_that_stops_ends_its_streams_and_takes_no_more(site):
    async with listening(site) as client:
        assert (await client.event()).name == "hello"
        await stream.close(site.app)
        assert await client.event() is None
        await client.ended()
        assert site.app.state.feeds._feeds[site.world.project_id]._task.done()
        assert (await site.get("/v1/stream")).status_code == 503


async def test_each_project_has_its_own_stream(site):
    other = await make_world(site.engine, name="other")
    await add_key(site, "other", "other", "read")
    async with listening(site) as ours, listening(site, key="other") as theirs:
        assert (await ours.event()).name == (await theirs.event()).name == "hello"
        await site.write(payments=[payment(other, amount=5)], audit_events=[audit(other, "paused")])
        await site.write(payments=[payment(site.world, amount=6)])
        await look(site)
        await look(site, other)
        assert [item["amount"] for item in (await ours.event()).data["items"]] == ["6"]
        assert {(await theirs.event()).name, (await theirs.event()).name} == {"payments", "audit"}
        assert ours._sent.empty()
