"""The JSON-RPC envelope: whatever a body holds, the answer has the right shape."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox_tools import payment_instructions, signed
from solders.hash import Hash

from sandbox import base58
from sandbox.rpc import MAX_BATCH
from sandbox.serve import MAX_BODY_BYTES
from sandbox.tokens import USDC

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = [
    "getHealth",
    "getVersion",
    "getGenesisHash",
    "getSlot",
    "getBlockHeight",
    "getLatestBlockhash",
    "isBlockhashValid",
    "getBalance",
    "getAccountInfo",
    "getMultipleAccounts",
    "getTokenAccountBalance",
    "getTokenAccountsByOwner",
    "getTokenSupply",
    "getMinimumBalanceForRentExemption",
    "sendTransaction",
    "simulateTransaction",
    "getSignatureStatuses",
    "getSignaturesForAddress",
    "getTransaction",
    "requestAirdrop",
]


async def post(rpc, body):
    return await rpc.http.post(rpc.url, content=body)


def code(response):
    assert response.status_code == 200
    answer = response.json()
    assert answer["jsonrpc"] == "2.0"
    return answer["error"]["code"]


async def test_the_front_page_lists_every_method(rpc):
    about = (await rpc.http.get(rpc.url)).json()
    assert sorted(METHODS) == about["methods"]
    assert "sandbox" in about["name"]
    assert (await rpc.http.get(f"{rpc.url}/health")).text == "ok"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'"\\ud800"', b"[" * 20_000, b"1e999", b"nope", b'{"jsonrpc": "2.0", "id": 1,}']
)
async def test_unreadable_bodies_are_minus_32700(rpc, body):
    response = await post(rpc, body)
    assert code(response) == -32700
    assert response.json()["id"] is None


@pytest.mark.parametrize(
    "request_",
    [
        5,
        "getSlot",
        None,
        [],
        {},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "1.0", "id": 1, "method": "getSlot"},
        {"id": 1, "method": "getSlot"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": {}, "method": "getSlot"},
        {"jsonrpc": "2.0", "id": 10**30, "method": "getSlot"},
        {"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": "confirmed"},
        [{"jsonrpc": "2.0", "id": 1, "method": "getSlot"}] * (MAX_BATCH + 1),
    ],
    ids=lambda one: json.dumps(one)[:50],
)
async def test_what_is_no_request_is_minus_32600(rpc, request_):
    assert code(await post(rpc, json.dumps(request_))) == -32600


async def test_unknown_methods_and_named_parameters(rpc):
    assert await rpc.code("getEverything") == -32601
    named = {"jsonrpc": "2.0", "id": 1, "method": "getSlot", "params": {"commitment": "confirmed"}}
    assert code(await post(rpc, json.dumps(named))) == -32602


async def test_a_batch_answers_each_call_but_not_notifications(rpc):
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "getHealth"},
        {"jsonrpc": "2.0", "method": "getHealth"},
        {"jsonrpc": "2.0", "id": "b", "method": "getNothing"},
        5,
    ]
    answers = (await post(rpc, json.dumps(batch))).json()
    assert [one["id"] for one in answers] == ["a", "b", None]
    assert answers[0]["result"] == "ok"
    assert [one["error"]["code"] for one in answers[1:]] == [-32601, -32600]


async def test_notifications_alone_get_no_content(rpc):
    response = await post(rpc, json.dumps({"jsonrpc": "2.0", "method": "getHealth"}))
    assert (response.status_code, response.content) == (204, b"")


async def test_a_huge_body_is_413(rpc):
    response = await post(rpc, b" " * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == -32600
    assert (await rpc.call("getHealth")) == "ok"


async def test_other_paths_and_methods(rpc):
    assert (await rpc.http.put(rpc.url)).status_code == 405
    assert (await rpc.http.get(f"{rpc.url}/nothing")).status_code == 404


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
addresses = st.binary(min_size=32, max_size=32).map(base58.encode)
signatures = st.binary(min_size=64, max_size=64).map(base58.encode)
config_keys = st.sampled_from(
    ["commitment", "encoding", "dataSlice", "minContextSlot", "limit", "before", "until", "mint", "programId",
     "maxSupportedTransactionVersion", "skipPreflight", "sigVerify", "replaceRecentBlockhash", "accounts"]
)  # fmt: skip
config_values = json_values | st.sampled_from(
    ["processed", "confirmed", "base58", "base64", "jsonParsed", {"offset": 0, "length": 3}, {"addresses": ["a"]}]
)
configs = st.dictionaries(config_keys, config_values, max_size=4)
likely_params = st.lists(json_values | addresses | signatures | configs | st.lists(addresses, max_size=3), max_size=4)
likely_requests = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": st.integers(0, 9), "method": st.sampled_from(METHODS), "params": likely_params}
)
fuzz = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_shape(answer):
    assert answer["jsonrpc"] == "2.0"
    assert "id" in answer
    assert ("result" in answer) != ("error" in answer)
    if "error" in answer:
        assert isinstance(answer["error"]["code"], int)
        assert isinstance(answer["error"]["message"], str)
        assert answer["error"]["code"] != -32603 or "faucet" in answer["error"]["message"]


@fuzz
@given(body=json_values | likely_requests | st.lists(likely_requests | json_values, max_size=4))
async def test_any_json_gets_an_envelope(rpc, body):
    response = await post(rpc, json.dumps(body))
    assert response.status_code in (200, 204)
    if response.status_code == 200:
        answer = response.json()
        for one in answer if isinstance(answer, list) else [answer]:
            check_shape(one)


@fuzz
@given(body=st.binary(max_size=200))
async def test_any_bytes_get_an_envelope(rpc, body):
    response = await post(rpc, body)
    assert response.status_code == 200
    check_shape(response.json())


@fuzz
@given(data=st.data())
async def test_mangled_transactions_get_an_envelope(rpc, world, data):
    """The virtual machine is native code that trusts indexes: nothing unsound may reach it."""
    scout = world.wallets.agents["scout"]
    blockhash = await rpc.blockhash() if data.draw(st.booleans()) else Hash.default()
    instructions = payment_instructions(USDC, scout.pubkey(), world.wallets.seller.pubkey(), 1)
    wire = bytearray(bytes(signed(instructions, scout, blockhash)))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    text = base58.encode(bytes(wire[: data.draw(st.sampled_from([len(wire), len(wire) - 1, 70]))]))
    for method, config in (
        ("simulateTransaction", {"replaceRecentBlockhash": True}),
        ("sendTransaction", {"skipPreflight": True}),
        ("sendTransaction", {}),
    ):
        check_shape(await rpc.answer(method, text, config))
