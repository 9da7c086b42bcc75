"""The second paid API, and the resources that cause trouble on purpose, as a customer meets them."""

import pytest
import pytest_asyncio
from sandbox_tools import open_world, rpc_of
from x402.http import decode_payment_required_header

from sandbox.knowledge import TOPICS
from sandbox.troubles import Act, flaky_acts

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with open_world(slot_ms=20, seed=3) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(world):
    async with rpc_of(world) as rpc:
        yield rpc.http


async def test_front_pages_keep_products_and_troubles_apart(world, http):
    def lines(page, key):
        return [(one["url"].split("/v1/")[1], one["price_atomic"]) for one in page[key]]

    knowledge = (await http.get(world.places.knowledge)).json()
    assert lines(knowledge, "products") == [("answer/{topic}", "5000"), ("summary/{topic}", "12000")]
    assert lines(knowledge, "troubles") == [("flaky/{topic}", "3000")]
    assert knowledge["topics"] == list(TOPICS)
    market = (await http.get(world.places.market)).json()
    assert lines(market, "troubles") == [("cheat/{symbol}", "1500")]
    assert all(one["trouble"] for one in market["troubles"] + knowledge["troubles"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/answer/X402", 402),
        ("/v1/summary/circuit-breakers", 402),
        ("/v1/answer/BTC", 404),
        ("/v1/price/x402", 404),
        ("/v1/answer/x", 400),
        ("/v1/answer/a_b", 400),
    ],
)
async def test_only_what_is_sold_is_charged_for(world, http, path, status):
    assert (await http.get(world.places.knowledge + path)).status_code == status


async def test_its_money_goes_to_a_seller_of_its_own(world, http):
    response = await http.get(f"{world.places.knowledge}/v1/answer/solana")
    terms = decode_payment_required_header(response.headers["payment-required"]).accepts[0]
    assert (terms.amount, terms.pay_to) == ("5000", world.books()["sellers"]["knowledge"])
    assert terms.pay_to != world.books()["seller"]


async def test_the_flaky_resource_fails_by_count_before_any_payment(world, http):
    script = flaky_acts(3)
    url = f"{world.places.knowledge}/v1/flaky/x402"
    for act in [next(script) for _ in range(60)]:
        response = await http.get(url)
        assert response.status_code == (503 if act is Act.DOWN else 402)
        if act is Act.DOWN:
            assert "trouble of the sandbox" in response.json()["error"]
