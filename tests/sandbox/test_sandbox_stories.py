"""What the stories share: sessions, money that does not run out, repeatability, and going on whatever happens."""

import asyncio
import collections
import dataclasses

import pytest
import pytest_asyncio
from sandbox_tools import Recorder, eventually, open_world, rpc_of, serving
from starlette.responses import Response
from story_tools import agent_of, told

from sandbox import agents, funding
from sandbox.chain_client import ChainClient
from sandbox.errors import Stopping, TransferFailed
from sandbox.funding import Treasury
from sandbox.profiles import PROFILES
from sandbox.stories import STORIES, Healthy
from sandbox.tokens import CASH, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOUT = PROFILES[0]
REST = ("poor", "flaky", "cheated", "liar")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with open_world(slot_ms=20) as opened:
        yield opened


@pytest.fixture
def recorder():
    return Recorder()


async def shop(world, recorder, profile, purchases, pace=200.0):
    """Let one agent of this profile buy so many things from the world's own market."""
    async with serving(recorder.app()) as url:
        agent = agent_of(world, profile, url)
        await agent.begin(Healthy(agent, pace, purchases), 1)
        await agent.stop()
    assert not agent.recorder.stats().waiting
    return agent


async def test_a_healthy_agent_renews_its_session_before_a_payment_could_be_refused(world, recorder):
    agent = await shop(world, recorder, dataclasses.replace(SCOUT, tx_limit=4), 10)
    assert (agent.tally.done, agent.tally.failed) == (10, 0)
    used = collections.Counter(one["session"] for one in recorder.of_type("payment") if one["status"] == "pending")
    assert used == {one["id"]: one["tx_used"] for one in agent.diary.sessions.items}
    assert max(used.values()) <= 4
    assert sum(used.values()) == 10
    created = [one["entity_id"] for one in recorder.of_type("audit") if one["event_type"] == "session_created"]
    revoked = [one["entity_id"] for one in recorder.of_type("audit") if one["event_type"] == "session_revoked"]
    assert created == revoked == list(used)
    assert {one["session"] for one in recorder.of_type("api_request")} == set(created)


async def test_the_treasury_fills_the_purse_of_an_agent_under_its_floor(world, recorder, monkeypatch):
    monkeypatch.setattr(funding, "LOOK_EVERY", 3)
    oracle = dataclasses.replace(PROFILES[1], floor=50_000_000, purse=50_000_500)
    async with rpc_of(world) as rpc:
        agent = await shop(world, recorder, oracle, 3)
        assert await rpc.tokens(CASH.account_of(world.wallets.agents["oracle"].pubkey())) == 50_000_500
        (top_up,) = agent.diary.top_ups.items
        (said,) = [one for one in recorder.of_type("audit") if one["event_type"] == "topped_up"]
        assert top_up["signature"] == said["entity_id"]
        assert top_up["amount"] == said["details"]["amount"] == str(agent.tally.spent + 500)
        assert said["details"]["from"] == str(world.wallets.treasury.pubkey())
        status = (await rpc.call("getSignatureStatuses", [top_up["signature"]]))["value"][0]
        assert status["err"] is None


async def test_a_top_up_that_fails_is_no_reason_to_stop(world, recorder, monkeypatch, caplog):
    monkeypatch.setattr(funding, "LOOK_EVERY", 1)
    greedy = dataclasses.replace(SCOUT, floor=2**61, purse=2**62)
    agent = await shop(world, recorder, greedy, 2)
    assert agent.tally.done == 2
    assert agent.diary.top_ups.count == 0
    assert len([line for line in caplog.messages if "top_up_failed" in line]) == 2


async def test_a_transfer_of_the_treasury_fails_aloud(world, monkeypatch):
    async with rpc_of(world) as rpc:
        chain = ChainClient(world.places.chain, rpc.http)
        to = world.wallets.agents["poor"].pubkey()
        treasury = Treasury(world.wallets.treasury, chain, 0.01)
        with pytest.raises(TransferFailed, match="failed"):
            await treasury.send(USDC, to, 2**63, "too much")
        monkeypatch.setattr(funding, "CONFIRM_TIMEOUT_S", 0)
        with pytest.raises(TransferFailed, match="not confirmed"):
            await treasury.send(USDC, to, 1, "too late")


@pytest.mark.parametrize("status", [404, 405, 422])
async def test_sessions_that_tollwatch_does_not_take_are_counted_and_no_more(world, recorder, status):
    app = recorder.app()
    taken = recorder._put

    async def put(request):
        if "/sessions/" not in request.url.path:
            return await taken(request)
        return Response("{}", status, media_type="application/problem+json")

    app.router.routes.pop(0)
    app.add_route("/v1/agents/{path:path}", put, methods=["PUT"])
    async with serving(app) as url:
        agent = agent_of(world, SCOUT, url)
        await agent.begin(Healthy(agent, 200.0, 2), 1)
        await agent.stop()
    assert agent.recorder.stats().unregistered[f"http_{status}"] >= 2
    assert agent.recorder.stats().accepted == 8
    assert {path for path, _ in recorder.puts} == {"/v1/agents/scout", f"/v1/agents/scout/wallets/{agent.address}"}


async def test_events_of_a_type_that_tollwatch_does_not_know_are_counted(recorder):
    recorder.reject = lambda event: "unknown_type" if event["type"] == "queue" else None
    async with serving(recorder.app()) as url, open_world(
        tollwatch_url=url, story=("poor",), cycles=1, slot_ms=20, speed=100, pace=1
    ) as world:  # fmt: skip
        await world.stories_told()
        (poor,) = world.agents
        await eventually(lambda: poor.recorder.settled)
        assert poor.recorder.stats().rejected == {"unknown_type": 10}
        assert poor.diary.moments.items[-1]["event_type"] == "resumed"


class Crashing:
    def __init__(self, agent):
        self.agent = agent
        self.cycles = 0

    async def cycle(self):
        self.cycles += 1
        if self.cycles == 1:
            raise RuntimeError("once")
        await self.agent.time.pause(3600)


async def test_a_story_that_crashes_goes_on_with_its_next_cycle(world, caplog, monkeypatch):
    monkeypatch.setattr(agents, "AFTER_A_CRASH_S", 0.01)
    agent = agent_of(world, SCOUT, "")
    story = Crashing(agent)
    life = agent.begin(story)
    await eventually(lambda: story.cycles == 2)
    await agent.stop()
    assert life.done()
    assert [line for line in caplog.messages if "story_crashed" in line]


async def test_a_purchase_that_crashes_is_one_that_failed(world, caplog, monkeypatch):
    async def crash(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(agents, "buy", crash)
    agent = agent_of(world, SCOUT, "")
    await agent.begin(Healthy(agent, 1000.0, 2), 1)
    await agent.stop()
    assert agent.tally.failed == 2
    assert [line for line in caplog.messages if "purchase_crashed" in line]


async def test_a_pause_ends_when_the_agent_is_to_stop(world):
    agent = agent_of(world, SCOUT, "")
    waiting = asyncio.create_task(agent.time.pause(3600))
    await asyncio.sleep(0)
    await agent.stop()
    with pytest.raises(Stopping):
        await waiting
    with pytest.raises(Stopping):
        await agent.time.pause(0)


def plot(tale):
    """What happened, without what differs between runs: ids, times, signatures and terms."""
    ports = {url: name for name, url in tale.books["services"].items()}
    shown = ("attempt", "outcome", "breaker_state", "error_type", "response_status", "paid")
    plots = collections.defaultdict(list)
    for event in tale.recorder.events:
        what = [event["type"], event.get("event_type"), event.get("state"), event.get("status"), event.get("amount")]
        if event["type"] == "api_request":
            place = event["resource"].removeprefix(event["service"])
            what += [ports[event["service"]], place, *(event.get(name) for name in shown)]
        if event["type"] == "queue":
            what += [event["priority_score"], event["freshness_s"], event["balance"]]
        plots[event["agent"]].append(tuple(what))
    return dict(plots)


async def test_the_same_seed_is_the_same_story_at_any_speed():
    plots = []
    for speed in (100.0, 400.0):
        async with told(*REST, seed=5, speed=speed) as tale:
            plots.append(plot(tale))
    for name in REST:
        assert plots[0][name] == plots[1][name]


async def test_all_stories_together_are_told_apart_and_end():
    async with told(cycles=1, seed=2, pace=30.0) as tale:
        names = [profile.name for profile in PROFILES]
        assert [account["name"] for account in tale.books["agents"]] == names
        assert list(dict.fromkeys(account["story"] for account in tale.books["agents"])) == list(STORIES)
        assert tale.account("scout")["purchases"]["done"] == 10
        for account in tale.books["agents"]:
            mine = [one for one in tale.recorder.events if one["agent"] == account["name"]]
            assert account["reporter"]["sent"] == account["reporter"]["accepted"] == len(mine)
            settled = {one["payment_id"] for one in mine if one.get("status") == "settled"}
            booked = account["settled_payments"]["items"] + account["false_payments"]["items"]
            assert settled == {one["payment_id"] for one in booked}
            assert account["payments"]["settled"] == account["settled_payments"]["count"]
        puts = dict(tale.recorder.puts)
        rules = {name: puts[f"/v1/agents/{name}"] for name in names}
        assert [rules[name]["max_retries"] for name in names] == [3, 3, 3, 3, 2, 1]
        assert (rules["flaky"]["breaker_timeout_s"], rules["scout"]["breaker_timeout_s"]) == (20, 300)
