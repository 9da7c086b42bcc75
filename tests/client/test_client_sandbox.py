"""In the sandbox's world, x402 versions 1 and 2, with the SDK's client and without it: events are what the chain shows."""

import asyncio
import base64
import json

import httpx
import pytest
import pytest_asyncio
from tollwatch import AsyncTollwatchTransport, TollwatchTransport, observe
from x402 import x402Client
from x402.http import decode_payment_required_header, encode_payment_signature_header
from x402.http.clients.httpx import PaymentError, x402_httpx_transport, x402HttpxClient
from x402.schemas import PaymentPayload, PaymentRequirements

from sandbox.chain import NETWORK
from sandbox.chain_client import ChainClient
from sandbox.exact_svm import ExactSvmScheme
from sandbox.http_client import http_client
from sandbox.tokens import CASH, USDC
from tests.client.tools import Tollwatch, in_balance, recorder_for
from tests.client.v1_seller import PRICE, SellerV1
from tests.sandbox.sandbox_tools import open_world, rpc_of, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with open_world(slot_ms=20) as opened:
        yield opened


class V1Scheme:
    """The SDK's interface for version 1, over the sandbox's scheme for version 2."""

    scheme = "exact"

    def __init__(self, scheme):
        self._scheme = scheme
        self.find_default_asset = scheme.find_default_asset

    def create_payment_payload(self, terms):
        return self._scheme.create_payment_payload(as_v2(terms.model_dump(by_alias=True)))


def as_v2(terms):
    wanted = {name: terms[name] for name in ("scheme", "asset", "payTo", "maxTimeoutSeconds", "extra")}
    return PaymentRequirements(**wanted, network=NETWORK, amount=terms.get("amount") or terms["maxAmountRequired"])


class Agent:
    """A wallet of this world that pays in one asset, and what is told of it."""

    def __init__(self, world, http, asset):
        self.world, self.asset = world, asset
        self.wallet = world.wallets.visitor
        self.scheme = ExactSvmScheme(self.wallet, ChainClient(world.places.chain, http))
        self.tollwatch = Tollwatch()
        self.recorder = recorder_for(self.tollwatch)

    def sdk(self):
        client = x402Client().register(NETWORK, self.scheme).register_v1("solana", V1Scheme(self.scheme))
        mint = str(self.asset.mint)
        client.register_policy(lambda _, offers: [offer for offer in offers if offer.asset == mint])
        client.on_before_payment_creation(self.scheme.prepare)
        return client

    async def sign(self, terms):
        class Context:
            selected_requirements = terms

        await self.scheme.prepare(Context)
        return self.scheme.create_payment_payload(terms)

    async def told(self):
        assert await asyncio.to_thread(self.recorder.flush, 20)
        stats = self.recorder.stats()
        assert in_balance(stats)
        assert (stats.errors, stats.invalid, stats.rejected) == (0, {}, {})
        events = [self.tollwatch.stored[ident] for ident in sorted(self.tollwatch.stored)]
        return [one for one in events if one["type"] == "payment"], [
            one for one in events if one["type"] == "api_request"
        ]

    async def check(self, price, version, count=1):
        """One attempt and one settled payment for each purchase, and the chain moved what they say."""
        payments, requests = await self.told()
        assert [one["status"] for one in payments] == ["pending", "settled"] * count
        assert [(one["outcome"], one["paid"], one["attempt"], one["x402_version"]) for one in requests] == [
            ("ok", True, 1, version)
        ] * count
        async with rpc_of(self.world) as rpc:
            for end, request in zip(payments[1::2], requests, strict=True):
                assert end["payment_id"] == request["payment_id"]
                assert (end["wallet"], end["network"]) == (str(self.wallet.pubkey()), NETWORK)
                assert (end["asset"], end["amount"]) == (str(self.asset.mint), price)
                assert end["pay_to"] == str(self.world.wallets.seller.pubkey())
                found = await rpc.call(
                    "getTransaction", end["signature"], {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
                )
                assert found["meta"]["err"] is None
                assert moved(found, end["wallet"], end["asset"]) == -int(price)
                assert moved(found, end["pay_to"], end["asset"]) == int(price)
                assert any(end["x402_payment_id"] in line for line in found["meta"]["logMessages"])


def moved(found, owner, mint):
    return sum(
        sign * int(held["uiTokenAmount"]["amount"])
        for sign, side in ((-1, "preTokenBalances"), (1, "postTokenBalances"))
        for held in found["meta"][side]
        if (held["owner"], held["mint"]) == (owner, mint)
    )


@pytest_asyncio.fixture(loop_scope="module", params=[USDC, CASH], ids=lambda asset: asset.symbol)
async def agent(world, request):
    async with http_client(20) as http:
        one = Agent(world, http, request.param)
        yield one
        await one.recorder.aclose()


def lower():
    return httpx.AsyncHTTPTransport(trust_env=False)


async def test_version_2_with_the_sdk(agent):
    transport = x402_httpx_transport(agent.sdk(), AsyncTollwatchTransport(agent.recorder, lower()))
    async with httpx.AsyncClient(transport=transport, timeout=20) as http:
        asked = [http.get(f"{agent.world.places.market}/v1/price/{item}") for item in ("SOL", "SOL", "BTC")]
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    payments, _ = await agent.told()
    # Three at a time: told in any order, but each payment pending before it is settled.
    ends = {}
    for one in payments:
        ends.setdefault(one["payment_id"], []).append(one["status"])
    assert list(ends.values()) == [["pending", "settled"]] * 3


async def test_version_2_with_the_sdks_own_client(agent):
    async with x402HttpxClient(agent.sdk(), timeout=20) as http:
        observe(http, agent.recorder)
        response = await http.get(f"{agent.world.places.market}/v1/price/SOL")
        assert response.status_code == 200
    price = (await agent.told())[0][0]["amount"]
    assert response.json()["resource"]
    await agent.check(price, 2)


async def test_version_2_without_the_sdk(agent):
    """An agent that asks, reads the header, signs and asks again; with a plain, blocking client."""
    url = f"{agent.world.places.market}/v1/price/ETH"
    with httpx.Client(
        transport=TollwatchTransport(agent.recorder, httpx.HTTPTransport(trust_env=False)), timeout=20
    ) as http:
        asked = await asyncio.to_thread(http.get, url)
        required = decode_payment_required_header(asked.headers["PAYMENT-REQUIRED"])
        terms = next(one for one in required.accepts if one.asset == str(agent.asset.mint))
        payload = PaymentPayload(x402_version=2, payload=await agent.sign(terms), accepted=terms)
        header = {"PAYMENT-SIGNATURE": encode_payment_signature_header(payload)}
        assert (await asyncio.to_thread(http.get, url, headers=header)).status_code == 200
    await agent.check(terms.amount, 2)


async def test_version_1_with_the_sdk(agent):
    seller = SellerV1(agent.world)
    async with serving(seller.app()) as shop:
        transport = x402_httpx_transport(agent.sdk(), AsyncTollwatchTransport(agent.recorder, lower()))
        async with httpx.AsyncClient(transport=transport, timeout=20) as http:
            assert (await http.get(f"{shop}/price")).status_code == 200
    await agent.check(PRICE, 1)
    payments, _ = await agent.told()
    assert [payments[1]["signature"]] == seller.settled


async def test_version_1_without_the_sdk(agent):
    transport = AsyncTollwatchTransport(agent.recorder, lower())
    async with serving(SellerV1(agent.world).app()) as shop, httpx.AsyncClient(transport=transport, timeout=20) as http:
        asked = (await http.get(f"{shop}/price")).json()
        terms = next(one for one in asked["accepts"] if one["asset"] == str(agent.asset.mint))
        payload = {"x402Version": 1, "scheme": "exact", "network": "solana", "payload": await agent.sign(as_v2(terms))}
        header = base64.b64encode(json.dumps(payload).encode()).decode()
        assert (await http.get(f"{shop}/price", headers={"X-PAYMENT": header})).status_code == 200
    await agent.check(PRICE, 1)


async def test_a_seller_of_version_1_that_says_nothing_leaves_the_payment_unknown(agent):
    seller = SellerV1(agent.world, silent=True)
    async with serving(seller.app()) as shop:
        transport = x402_httpx_transport(agent.sdk(), AsyncTollwatchTransport(agent.recorder, lower()))
        async with httpx.AsyncClient(transport=transport, timeout=20) as http:
            assert (await http.get(f"{shop}/price")).status_code == 200
    payments, requests = await agent.told()
    assert [one["status"] for one in payments] == ["pending", "unknown"]
    assert [(one["outcome"], one["paid"]) for one in requests] == [("ok", False)]
    assert len(seller.settled) == 1


async def test_a_timeout_after_paying_is_unknown_and_the_chain_has_the_money(agent):
    """The sandbox's seller settles, and does not answer: of six acts of its script one hangs."""
    transport = x402_httpx_transport(agent.sdk(), AsyncTollwatchTransport(agent.recorder, lower()))
    lost = 0
    async with httpx.AsyncClient(transport=transport, timeout=1.5) as http:
        while not lost:
            try:
                await http.get(f"{agent.world.places.market}/v1/cheat/SOL")
            except PaymentError:  # the SDK's, around the timeout
                lost += 1
    payments, _ = await agent.told()
    unknown = payments[-1]
    assert (unknown["status"], unknown["error_type"]) == ("unknown", "timeout")
    async with rpc_of(agent.world) as rpc:
        paid = await rpc.call("getSignaturesForAddress", str(agent.wallet.pubkey()), {"commitment": "confirmed"})
        (settled,) = [one for one in paid if one["memo"] and unknown["x402_payment_id"] in one["memo"]]
    assert settled["err"] is None
