"""Poor: low, paused, queued, topped up, resumed, caught up."""

import itertools

import pytest_asyncio
from story_tools import told

from sandbox.profiles import PROFILES
from sandbox.stories.poor import FILLED_ATOMIC, WANTED
from sandbox.tokens import USDC

CYCLES = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tale():
    async with told("poor", cycles=CYCLES) as one:
        yield one, await balances(one)


async def balances(tale):
    """{signature: atomic units that reached poor} of the top-ups."""
    wallet = tale.account("poor")["wallet"]
    return {
        one["signature"]: -await tale.spent(one["signature"], wallet, str(USDC.mint))
        for one in tale.account("poor")["top_ups"]["items"]
    }


def test_one_thing_follows_from_the_other(tale):
    account = tale[0].account("poor")
    happened = account["moments"]["items"] + [one | {"event_type": one["state"]} for one in account["queue"]["items"]]
    order = [one["event_type"] for one in sorted(happened, key=lambda one: (one["ts"], one["event_id"] or ""))]
    collapsed = [name for name, _ in itertools.groupby(order)]
    cycle = ["low", "paused", "queued", "top_up_requested", "topped_up", "resumed", "processed", "dropped"]
    assert collapsed == cycle * CYCLES


def test_the_books_are_what_was_told(tale):
    one, account = tale[0], tale[0].account("poor")
    moments = [(m["event_type"], m["event_id"]) for m in account["moments"]["items"] if m["event_id"] is not None]
    assert moments == [(audit["event_type"], audit["id"]) for audit in one.audits()]
    queue = one.recorder.of_type("queue")
    assert [entry["event_id"] for entry in account["queue"]["items"]] == [event["id"] for event in queue]
    assert account["queue"]["count"] == len(queue) == 2 * WANTED * CYCLES
    assert not one.audits("low_balance"), "that is Tollwatch's to find out"


def test_what_was_queued_is_bought_by_priority_and_only_the_stale_is_dropped(tale):
    events = tale[0].recorder.of_type("queue")
    bought = {one["request_id"] for one in tale[0].recorder.of_type("api_request")}
    window_s = 60
    for first in range(0, len(events), 2 * WANTED):
        queued, handled = events[first : first + WANTED], events[first + WANTED : first + 2 * WANTED]
        assert {one["request_id"] for one in queued} == {one["request_id"] for one in handled}
        assert {one["state"] for one in queued} == {"queued"}
        assert [one["state"] for one in handled] == ["processed"] * (WANTED - 1) + ["dropped"]
        scores = [one["priority_score"] for one in handled]
        assert scores == sorted(scores, reverse=True)
        assert handled[-1]["freshness_s"] > window_s >= max(one["freshness_s"] for one in handled[:-1])
        assert handled[-1]["request_id"] not in bought
        assert {one["request_id"] for one in handled[:-1]} <= bought
        for one in queued:
            assert (one["reason"], one["asset"]) == ("funds", "USDC")
            assert int(one["balance"]) < 25_000


def test_the_top_ups_are_real_and_said_to_be(tale):
    one, arrived = tale
    asked = [int(audit["details"]["amount"]) for audit in one.audits("top_up_requested")]
    had = [int(audit["details"]["balance"]) for audit in one.audits("paused")]
    said = {audit["entity_id"]: int(audit["details"]["amount"]) for audit in one.audits("topped_up")}
    assert said == arrived
    assert list(said.values()) == asked == [FILLED_ATOMIC - balance for balance in had]
    assert [int(audit["details"]["balance"]) for audit in one.audits("resumed")] == [FILLED_ATOMIC] * CYCLES


def test_it_is_registered_with_its_own_threshold_and_both_services(tale):
    puts = dict(tale[0].recorder.puts)
    agent = puts["/v1/agents/poor"]
    assert agent["priority_rules"] == {"funds_threshold": "25000", "freshness_window_s": 60}
    assert agent["low_balance_threshold"] == "0.025"
    services = tale[0].books["services"]
    assert [one["url"] for one in agent["api_endpoints"]] == [services["market"], services["knowledge"]]
    assert {one["service"] for one in tale[0].recorder.of_type("api_request")} == {
        services["market"],
        services["knowledge"],
    }
    assert next(profile for profile in PROFILES if profile.name == "poor").floor is None
