"""Feeds: one look for all listeners, what those who come back are told, who is dropped, how a feed ends."""

from __future__ import annotations

import asyncio
import json

import pytest
import pytest_asyncio

from api.problems import Problem
from api.stream_facts import Reading
from api.stream_feeds import WAITING, Feeds, Limits
from store.errors import DatabaseUnavailable

NEVER = 3600.0


class World:
    """What a feed looks at: payments that are numbers. `fails` is raised in place of an answer."""

    def __init__(self):
        self.payments = {}
        self.looks = 0
        self.fails = None

    def add(self, number):
        """One more."""
        self.payments = {number: {"amount": number}, **self.payments}

    async def read(self, project_id, before):
        """Look."""
        self.looks += 1
        await asyncio.sleep(0)  # others have their turn, as they do while a database answers
        if self.fails is not None:
            raise self.fails
        return Reading(payments=dict(self.payments))


@pytest.fixture
def world():
    return World()


@pytest_asyncio.fixture
async def feeds(world):
    made = Feeds(world.read, Limits(poll=NEVER))
    yield made
    await made.close()


async def heard(listener):
    """(name, id, amounts) of the next event; None: it has ended."""
    encoded = await listener.next(5)
    if encoded is None:
        return None
    name, number, data = (line.split(": ", 1)[1] for line in encoded.decode().strip().split("\n"))
    told = json.loads(data)
    return name, number, [item["amount"] for item in (told["payments"] if name == "hello" else told["items"])]


async def test_a_crowd_makes_one_look_and_hears_the_same(feeds, world):
    crowd = await asyncio.gather(*(feeds.join(1) for _ in range(19)))
    late = await feeds.join(1)
    assert world.looks == 1
    world.add(7)
    await feeds._feeds[1].look()
    assert world.looks == 2
    for listener in [*crowd, late]:
        assert (await heard(listener))[0] == "hello"
        assert (await heard(listener))[0::2] == ("payments", [7])


async def test_with_the_last_listener_a_feed_rests(feeds, world):
    first, second = await feeds.join(1), await feeds.join(1)
    feed = feeds._feeds[1]
    feeds.leave(1, first)
    assert not feed._task.done()
    feeds.leave(1, second)
    async with asyncio.timeout(5):
        await feed._task
    feeds.leave(1, second)  # twice is once
    await feeds.join(1)
    assert not feed._task.done()


async def test_who_comes_back_is_told_what_was_missed(feeds, world):
    client = await feeds.join(1)
    _, began, _ = await heard(client)
    world.add(1)
    await feeds._feeds[1].look()
    _, seen, _ = await heard(client)
    feeds.leave(1, client)
    world.add(2)
    back = await feeds.join(1, seen)
    assert (await heard(back))[2] == [2]
    further = await feeds.join(1, began)
    assert [(await heard(further))[2] for _ in range(2)] == [[1], [2]]
    feed_name = seen.split("-")[0]
    for unknown in (
        "",
        "x",
        "-1",
        "0-0",
        f"{feed_name}-99",
        f"{feed_name}-{9**40}",
        f"{feed_name}-٣",
        f"{feed_name}--1",
    ):
        assert (await heard(await feeds.join(1, unknown)))[::2] == ("hello", [2, 1]), unknown


async def test_who_missed_too_much_is_told_the_present_state(feeds, world):
    client = await feeds.join(1)
    _, began, _ = await heard(client)
    for number in range(WAITING):
        world.add(number)
        await feeds._feeds[1].look()
    assert (await heard(await feeds.join(1, began)))[0] == "hello"


async def test_who_is_too_far_behind_is_dropped_and_the_others_go_on(feeds, world):
    slow, quick = await feeds.join(1), await feeds.join(1)
    await heard(quick)
    for number in range(WAITING + 1):
        world.add(number)
        await feeds._feeds[1].look()
        assert (await heard(quick))[2] == [number]
    assert await heard(slow) is None
    assert feeds._feeds[1].listeners == {quick}


async def test_a_feed_that_nobody_has_listened_to_for_long_is_forgotten(feeds, world):
    feeds.leave(1, await feeds.join(1))
    forgotten = feeds._feeds[1]
    forgotten.left_at -= 3600
    listener = await feeds.join(2)
    assert set(feeds._feeds) == {2}
    feeds.leave(1, listener)
    assert feeds._feeds[2].listeners == {listener}


async def test_nobody_joins_while_the_database_is_away(feeds, world):
    world.fails = DatabaseUnavailable()
    with pytest.raises(DatabaseUnavailable):
        await feeds.join(1)
    assert feeds._feeds[1]._task is None
    world.fails = None
    assert (await heard(await feeds.join(1)))[0] == "hello"


async def test_a_feed_that_breaks_ends_its_listeners_and_begins_anew(world):
    feeds = Feeds(world.read, Limits(poll=0.001))
    client = await feeds.join(1)
    await heard(client)
    world.fails = AssertionError()
    assert await heard(client) is None
    with pytest.raises(AssertionError):
        await feeds._feeds[1]._task
    world.fails = None
    assert (await heard(await feeds.join(1)))[0] == "hello"
    await feeds.close()


async def test_who_is_one_too_many_leaves_no_feed_that_looks_on(world):
    feeds = Feeds(world.read, Limits(poll=0.001, listeners=1))
    found = await asyncio.gather(feeds.join(1), feeds.join(2), return_exceptions=True)
    assert sum(isinstance(one, Problem) for one in found) == 1
    async with asyncio.timeout(5):
        await feeds._feeds[2]._task
    await feeds.close()
