"""The healthy agents: what they buy, what they pay, and whether what they tell is what the chain shows."""

import asyncio
import collections
import itertools
import uuid

import pytest
import pytest_asyncio
from sandbox_tools import Recorder, eventually, open_world, rpc_of, serving
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from story_tools import agent_of
from x402.http import (
    decode_payment_signature_header,
    encode_payment_required_header,
    encode_payment_response_header,
)
from x402.schemas import PaymentRequired, PaymentRequirements, SettleResponse

from sandbox import agents
from sandbox.chain import NETWORK
from sandbox.profiles import MARKET_BASKET, PROFILES
from sandbox.shopping import shopping
from sandbox.stories import Healthy
from sandbox.tokens import ASSETS, CASH, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")

PURCHASES = 8
API_REQUEST = {
    "type", "id", "agent", "request_id", "attempt", "max_retries", "wallet", "service", "endpoint_type", "resource",
    "method", "response_status", "x402_version", "payment_required", "payment_id", "paid", "latency_ms", "backoff_ms",
    "component", "breaker_state", "outcome", "error_type", "failure_reason", "response_digest", "response_bytes",
    "data_as_of", "session",
}  # fmt: skip
PAYMENT = {
    "type", "id", "agent", "payment_id", "request_id", "x402_payment_id", "wallet", "status", "amount", "asset",
    "network", "pay_to", "service", "resource", "facilitator", "signature", "retry_count", "error_type",
    "failure_reason", "facilitator_response", "metadata", "session",
}  # fmt: skip


def deltas(found, mint):
    """What a transaction moved of one token, by owner."""
    moved = collections.Counter()
    for sign, side in ((-1, "preTokenBalances"), (1, "postTokenBalances")):
        for held in found["meta"][side]:
            if held["mint"] == mint:
                moved[held["owner"]] += sign * int(held["uiTokenAmount"]["amount"])
    return moved


async def test_every_claim_is_a_settlement_on_the_chain_and_the_books_agree():
    recorder = Recorder()
    async with serving(recorder.app()) as url, open_world(
        tollwatch_url=url, tollwatch_key="k-7", slot_ms=20, pace=40, purchases=PURCHASES
    ) as world:  # fmt: skip
        await world.stories_told()
        told = 2 * (3 * PURCHASES + 1)  # an audit event about either session
        await eventually(lambda: sum(agent.recorder.stats().accepted for agent in world.agents) == told)
        books = world.books()
        async with rpc_of(world) as rpc:
            await check_claims(recorder, books, rpc)
    check_registrations(recorder, books, world.places.market)
    check_events(recorder, world.places)
    for account in books["agents"]:
        assert account["purchases"] == {"started": PURCHASES, "done": PURCHASES, "failed": 0, "skipped": 0}
        assert account["payments"] == {"settled": PURCHASES, "failed": 0, "unknown": 0}
        assert account["reporter"] == {
            "sent": 3 * PURCHASES + 1, "accepted": 3 * PURCHASES + 1, "duplicates": 0, "rejected": {}, "dropped": 0,
            "pending": 0, "unregistered": {},
        }  # fmt: skip


async def check_claims(recorder, books, rpc):
    settled = [one for one in recorder.of_type("payment") if one["status"] == "settled"]
    wallets = {account["name"]: account for account in books["agents"]}
    spent = collections.Counter()
    for claim in settled:
        found = await rpc.call(
            "getTransaction", claim["signature"], {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
        )
        assert found["meta"]["err"] is None
        agent, amount = wallets[claim["agent"]], int(claim["amount"])
        assert deltas(found, agent["mint"]) == {agent["wallet"]: -amount, books["seller"]: amount}
        memos = [line for line in found["meta"]["logMessages"] if claim["x402_payment_id"] in line]
        assert memos, "the claim's payment id is the memo on the chain"
        spent[claim["agent"]] += amount
    assert len({claim["signature"] for claim in settled}) == len(settled) == 2 * PURCHASES
    assert {name: str(total) for name, total in spent.items()} == {
        name: account["spent"] for name, account in wallets.items()
    }
    for asset in (USDC, CASH):
        paid = sum(total for name, total in spent.items() if wallets[name]["asset"] == asset.symbol)
        account = await rpc.call("getTokenAccountsByOwner", books["seller"], {"mint": str(asset.mint)},
                                 {"encoding": "jsonParsed", "commitment": "confirmed"})  # fmt: skip
        held = account["value"][0]["account"]["data"]["parsed"]["info"]["tokenAmount"]["amount"]
        assert int(held) == paid


def check_registrations(recorder, books, market):
    assert recorder.keys == {"Bearer k-7"}
    puts = dict(recorder.puts)
    assert len([path for path in puts if "/sessions/" not in path]) == 4
    for account in books["agents"]:
        agent = puts[f"/v1/agents/{account['name']}"]
        assert (agent["network"], agent["autonomy_phase"], agent["active"]) == (NETWORK, "full", True)
        assert agent["api_endpoints"] == [{"name": "market_data", "url": market, "priority": 1}]
        wallet = puts[f"/v1/agents/{account['name']}/wallets/{account['wallet']}"]
        assert wallet == {"network": NETWORK, "thresholds": {"USDC": "5000000", "CASH": "5000000"}}


def check_events(recorder, places):
    requests, payments = recorder.of_type("api_request"), recorder.of_type("payment")
    assert (len(requests), len(payments)) == (2 * PURCHASES, 4 * PURCHASES)
    transitions = collections.defaultdict(list)
    for one in payments:
        assert set(one) <= PAYMENT
        assert None not in one.values()
        transitions[one["payment_id"]].append(one["status"])
    assert set(map(tuple, transitions.values())) == {("pending", "settled")}
    for one in requests:
        assert set(one) <= API_REQUEST
        assert None not in one.values()
        assert uuid.UUID(one["id"]).version == 7
        assert (one["outcome"], one["paid"], one["attempt"], one["response_status"]) == ("ok", True, 1, 200)
        assert (one["service"], one["method"], one["x402_version"]) == (places.market, "GET", 2)
        assert one["payment_id"] in transitions
        assert len(one["response_digest"]) == 64
        assert one["data_as_of"].endswith("Z")
        assert [ASSETS[terms["asset"]] for terms in one["payment_required"]["accepts"]] == [USDC, CASH]
    assert {one["facilitator"] for one in payments} == {places.facilitator}
    assert {(one["agent"], one["asset"]) for one in payments} == {("scout", str(USDC.mint)), ("oracle", str(CASH.mint))}


async def shopping_list(seed):
    recorder = Recorder()
    async with serving(recorder.app()) as url, open_world(
        tollwatch_url=url, seed=seed, slot_ms=20, pace=40, purchases=5
    ) as world:  # fmt: skip
        await world.stories_told()
        wallets = {agent.profile.name: agent.address for agent in world.agents}
    bought = collections.defaultdict(list)
    for one in sorted(recorder.of_type("api_request"), key=lambda one: one["request_id"]):
        bought[one["agent"]].append(one["resource"].removeprefix(world.places.market))
    signatures = {one["signature"] for one in recorder.of_type("payment") if "signature" in one}
    return wallets, dict(bought), signatures


async def test_the_same_seed_is_the_same_story_but_for_the_signatures():
    wallets, bought, signatures = await shopping_list(seed=11)
    again_wallets, again_bought, again_signatures = await shopping_list(seed=11)
    assert (wallets, bought) == (again_wallets, again_bought)
    assert len(signatures) == 10
    assert not signatures & again_signatures
    assert bought["scout"] == [path for _, path, _ in itertools.islice(shopping(11, "scout", MARKET_BASKET), 5)]


async def test_other_seeds_and_agents_are_other_stories():
    stories = {
        tuple(itertools.islice(shopping(seed, name, MARKET_BASKET), 20))
        for seed in (1, 2)
        for name in ("scout", "oracle")
    }
    assert len(stories) == 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    """A chain for agents whose seller is not this world's own."""
    async with open_world(slot_ms=20) as opened:
        yield opened


class Seller:
    """A seller that asks properly, and then does with paid requests what `script` says, the last line for ever."""

    def __init__(self, world, *script):
        self.world = world
        self.script = list(script)
        self.taken = []

    def required(self):
        return PaymentRequired(
            accepts=[
                PaymentRequirements(
                    scheme="exact",
                    network=NETWORK,
                    asset=str(USDC.mint),
                    amount="1000",
                    pay_to=str(self.world.wallets.seller.pubkey()),
                    max_timeout_seconds=60,
                    extra={"feePayer": str(self.world.wallets.facilitator.pubkey()), "memo": f"m{len(self.taken)}"},
                )
            ]
        )

    async def sell(self, request):
        header = request.headers.get("payment-signature")
        if header is None and self.script[0] != "down":
            return Response("{}", 402, {"PAYMENT-REQUIRED": encode_payment_required_header(self.required())})
        act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if header is not None:
            self.taken.append(decode_payment_signature_header(header))
        return await getattr(self, act)()

    async def ok(self):
        return self.settlement(200, success=True)

    async def unsettled(self):
        return self.settlement(402, success=False, error_reason="transaction_failed")

    async def pending(self):
        return self.settlement(402, success=False, error_reason="settlement_pending")

    async def refuses(self):
        again = self.required().model_copy(update={"error": "insufficient_funds"})
        return Response("{}", 402, {"PAYMENT-REQUIRED": encode_payment_required_header(again)})

    async def crash(self):
        return Response("boom", 500)

    async def down(self):
        return Response("down", 503)

    async def silent(self):
        return JSONResponse({"price": "1"})

    async def garbled(self):
        return Response("{}", 200, {"PAYMENT-RESPONSE": "????"})

    async def hang(self):
        await asyncio.sleep(1)  # longer than the agent waits, shorter than it takes to stop this server

    def settlement(self, status, **more):
        settled = SettleResponse(transaction="1" * 64, network=NETWORK, **more)
        return Response("{}", status, {"PAYMENT-RESPONSE": encode_payment_response_header(settled)})

    def app(self):
        return Starlette(routes=[Route("/{path:path}", self.sell)])


class Story:
    """One agent, one purchase, one seller."""

    def __init__(self):
        self.recorder = Recorder()
        self.tally = None
        self.seller = None

    def attempts(self):
        shown = ("attempt", "outcome", "error_type", "paid", "response_status")
        return [tuple(one.get(key) for key in shown) for one in self.recorder.of_type("api_request")]

    def payments(self):
        return [(one["status"], one.get("error_type")) for one in self.recorder.of_type("payment")]


async def tell(world, *script, timeout_s=20.0, stop_when=None):
    """Let scout buy once from a seller with this script."""
    story = Story()
    async with serving(story.recorder.app()) as url:
        story.seller = Seller(world, *script)
        async with serving(story.seller.app()) as shop:
            agent = agent_of(world, PROFILES[0], url, market=shop, answer_timeout_s=timeout_s)
            running = agent.begin(Healthy(agent, 1000.0, 1), 1)
            if stop_when is None:
                await running
            else:
                await eventually(lambda: stop_when(story))
            await agent.stop()
    story.tally = agent.tally
    assert agent.recorder.stats().dropped == 0
    return story


async def test_a_sale_that_is_claimed_settled(world):
    story = await tell(world, "ok")
    assert story.attempts() == [(1, "ok", None, True, 200)]
    assert story.payments() == [("pending", None), ("settled", None)]
    assert story.tally.spent == 1000


async def test_a_failed_settlement_is_tried_again_with_a_new_payment(world):
    story = await tell(world, "unsettled", "ok")
    assert story.attempts() == [(1, "retrying", "rejected", False, 402), (2, "ok", None, True, 200)]
    assert story.payments() == [("pending", None), ("failed", "rejected"), ("pending", None), ("settled", None)]
    requests = story.recorder.of_type("api_request")
    assert len({one["request_id"] for one in requests}) == 1
    assert len({one["payment_id"] for one in requests}) == 2
    assert requests[0]["backoff_ms"] > 0
    assert [one["retry_count"] for one in story.recorder.of_type("payment")] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("act", "error_type", "status"),
    [
        ("crash", "upstream_error", 500),
        ("silent", "other", 200),
        ("garbled", "other", 200),
        ("pending", "timeout", 402),
    ],
)
async def test_an_unknown_payment_is_said_to_be_unknown_and_not_made_again(world, act, error_type, status):
    story = await tell(world, act)
    assert story.payments() == [("pending", None), ("unknown", error_type)]
    assert len(story.seller.taken) == 1
    (attempt,) = story.attempts()
    assert attempt[4] == status
    assert attempt[3] is False
    assert attempt[1] == ("ok" if status == 200 else "failed")


async def test_a_timeout_after_paying_is_unknown(world):
    story = await tell(world, "hang", timeout_s=0.3)
    assert story.payments() == [("pending", None), ("unknown", "timeout")]
    assert story.attempts() == [(1, "failed", "timeout", False, None)]
    assert story.tally.failed == 1


async def test_a_refused_payment_is_a_failed_one(world):
    story = await tell(world, "refuses")
    assert story.payments() == [("pending", None), ("failed", "insufficient_funds")]
    assert story.attempts() == [(1, "failed", "insufficient_funds", False, 402)]


async def test_a_service_that_is_down_is_tried_max_retries_times_and_never_paid(world):
    story = await tell(world, "down")
    assert [one[:3] for one in story.attempts()] == [
        *[(number, "retrying", "upstream_error") for number in (1, 2, 3)],
        (4, "failed", "upstream_error"),
    ]
    assert story.payments() == []


async def test_an_agent_that_stops_gives_up_the_purchase_in_hand_and_says_so(world, monkeypatch):
    monkeypatch.setattr(agents, "STOP_GRACE_S", 0.05)
    story = await tell(world, "hang", stop_when=lambda story: story.seller.taken)
    assert story.payments() == [("pending", None), ("unknown", "other")]
    assert story.attempts() == [(1, "failed", "other", False, None)]


async def test_an_agent_pays_only_in_its_own_asset(world):
    story = Story()
    story.seller = Seller(world, "ok")  # asks for USDC, which oracle does not use
    async with serving(story.recorder.app()) as url, serving(story.seller.app()) as shop:
        agent = agent_of(world, PROFILES[1], url, market=shop)
        await agent.begin(Healthy(agent, 1000.0, 1), 1)
        await agent.stop()
    assert story.payments() == []
    (attempt,) = story.attempts()
    assert attempt[:3] == (1, "failed", "invalid_402")


async def test_agents_do_not_wait_for_tollwatch():
    async with open_world(tollwatch_url="http://127.0.0.1:9", slot_ms=20, pace=40, purchases=3) as world:
        await world.stories_told()
        for account in world.books()["agents"]:
            assert account["purchases"]["done"] == 3
            assert account["reporter"]["pending"] == 10
            assert account["reporter"]["sent"] == 0
