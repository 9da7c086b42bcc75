"""The paid API, as its customers meet it."""

import base64
import json

import pytest
import pytest_asyncio
from sandbox_tools import half_signed, open_world, payment_instructions, rpc_of
from x402.http import (
    decode_payment_required_header,
    decode_payment_response_header,
    encode_payment_signature_header,
)
from x402.schemas import PaymentPayload

from sandbox.chain import NETWORK
from sandbox.prices import RandomWalk
from sandbox.tokens import CASH, USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with open_world(slot_ms=20) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rpc(world):
    async with rpc_of(world) as client:
        yield client


@pytest.fixture
def shop(world, rpc):
    return Customer(world, rpc)


class Customer:
    def __init__(self, world, rpc):
        self.world = world
        self.rpc = rpc
        self.oracle = world.wallets.agents["oracle"]

    async def get(self, path, payment=None):
        headers = {} if payment is None else {"PAYMENT-SIGNATURE": payment}
        return await self.rpc.http.get(self.world.places.market + path, headers=headers)

    async def challenge(self, path):
        response = await self.get(path)
        assert response.status_code == 402
        return decode_payment_required_header(response.headers["payment-required"])

    async def payment(self, terms, asset):
        steps = payment_instructions(
            asset, self.oracle.pubkey(), self.world.wallets.seller.pubkey(), int(terms.amount), terms.extra["memo"]
        )
        fee_payer = self.world.wallets.facilitator.pubkey()
        signed = half_signed(steps, fee_payer, self.oracle, await self.rpc.blockhash("confirmed"))
        payload = {"transaction": base64.b64encode(bytes(signed)).decode()}
        return encode_payment_signature_header(PaymentPayload(x402_version=2, payload=payload, accepted=terms))


async def test_the_front_page_says_what_is_sold(shop):
    page = (await shop.get("/")).json()
    assert [(one["url"].split("/v1/")[1], one["price_atomic"]) for one in page["products"]] == [
        ("price/{symbol}", "1000"),
        ("orderbook/{symbol}", "2500"),
    ]
    assert page["payment"]["assets"] == [str(USDC.mint), str(CASH.mint)]


async def test_a_challenge_offers_both_assets_and_a_memo_of_its_own(shop, world):
    first, second = await shop.challenge("/v1/price/SOL"), await shop.challenge("/v1/price/SOL")
    assert first.resource.url == f"{world.places.market}/v1/price/SOL"
    for terms, asset in zip(first.accepts, (USDC, CASH), strict=True):
        assert (terms.scheme, terms.network, terms.asset, terms.amount) == ("exact", NETWORK, str(asset.mint), "1000")
        assert terms.pay_to == str(world.wallets.seller.pubkey())
        assert terms.extra["feePayer"] == str(world.wallets.facilitator.pubkey())
    memos = {terms.extra["memo"] for challenge in (first, second) for terms in challenge.accepts}
    assert len(memos) == 2


@pytest.mark.parametrize("asset", [USDC, CASH], ids=lambda asset: asset.symbol)
async def test_a_paid_request_is_answered_and_settled(shop, world, asset):
    terms = next(one for one in (await shop.challenge("/v1/orderbook/ETH")).accepts if one.asset == str(asset.mint))
    payment = await shop.payment(terms, asset)
    account = asset.account_of(world.wallets.seller.pubkey())
    before = await shop.rpc.tokens(account)
    response = await shop.get("/v1/orderbook/ETH", payment)
    assert response.status_code == 200
    settled = decode_payment_response_header(response.headers["payment-response"])
    assert (settled.success, settled.network) == (True, NETWORK)
    assert await shop.rpc.tokens(account, "confirmed") == before + 2500
    book = response.json()
    assert len(book["bids"]) == len(book["asks"]) == 5
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert book["as_of"].endswith("Z")
    replay = await shop.get("/v1/orderbook/ETH", payment)
    assert replay.status_code == 402
    assert await shop.rpc.tokens(account) == before + 2500


async def test_a_cheap_payment_does_not_buy_the_dear_resource(shop, world):
    terms = (await shop.challenge("/v1/price/SOL")).accepts[0]
    response = await shop.get("/v1/orderbook/SOL", await shop.payment(terms, USDC))
    assert response.status_code == 402
    assert "payment-response" not in response.headers


async def test_invented_terms_are_not_on_offer(shop):
    terms = (await shop.challenge("/v1/price/SOL")).accepts[0]
    cheaper = terms.model_copy(update={"amount": "1"})
    response = await shop.get("/v1/price/SOL", await shop.payment(cheaper, USDC))
    assert response.status_code == 402
    error = decode_payment_required_header(response.headers["payment-required"]).error
    assert error == "these terms are not on offer"


async def test_a_payment_that_the_facilitator_refuses_gets_its_reason(shop):
    terms = (await shop.challenge("/v1/price/SOL")).accepts[0]
    wrong = await shop.payment(terms.model_copy(update={"amount": "999"}), USDC)
    payload = json.loads(base64.b64decode(wrong))
    payload["accepted"]["amount"] = "1000"
    response = await shop.get("/v1/price/SOL", base64.b64encode(json.dumps(payload).encode()).decode())
    assert response.status_code == 402
    error = decode_payment_required_header(response.headers["payment-required"]).error
    assert error == "invalid_exact_svm_payload_amount_insufficient"


@pytest.mark.parametrize("header", ["", "x", "bnVsbA==", "W10=", "NQ==", "e30=", "eyJ4NDAyVmVyc2lvbiI6MX0="])
async def test_payments_that_are_none_are_400(shop, header):
    assert (await shop.get("/v1/price/SOL", header)).status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/price/DOGE", 404),
        ("/v1/volume/SOL", 404),
        ("/v1/price/", 404),
        ("/v2/price/SOL", 404),
        ("/v1/price/S", 400),
        ("/v1/price/SO%20L", 400),
        ("/v1/price/%00%FF", 400),
        ("/v1/price/sol?x=1", 402),
    ],
)
async def test_nobody_is_charged_for_nonsense(shop, path, status):
    assert (await shop.get(path)).status_code == status


async def test_the_walk_is_the_same_for_the_same_seed_and_stays_positive():
    assert [RandomWalk(5, "BONK").book() for _ in range(1)] == [RandomWalk(5, "BONK").book() for _ in range(1)]
    one, other, same = RandomWalk(1, "SOL"), RandomWalk(2, "SOL"), RandomWalk(1, "SOL")
    steps = [one.step() for _ in range(200)]
    assert steps == [same.step() for _ in range(200)]
    assert steps != [other.step() for _ in range(200)]
    bonk = RandomWalk(3, "BONK")
    assert all(bonk.step() > 0 for _ in range(2000))
