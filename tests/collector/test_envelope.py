from __future__ import annotations

import json

import pytest

from collector.accounts import decode
from collector.endpoints import EndpointPool
from collector.envelope import Call, open_answer
from collector.rpc_errors import CallRejected, MalformedAnswer, NodeFault

ENDPOINT = EndpointPool(["https://rpc.example/v2/path-secret"]).endpoints[0]
CALL = Call(method="getGenesisHash", params=[1], read=lambda raw: decode(raw, str))


def opened(body):
    return open_answer(ENDPOINT, CALL, 5, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_what_is_sent():
    assert json.loads(CALL.encode(5)) == {"jsonrpc": "2.0", "id": 5, "method": "getGenesisHash", "params": [1]}


def test_the_value_of_an_answer():
    assert opened({"jsonrpc": "2.0", "id": 5, "result": "abc", "more": 1}) == "abc"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>503</body></html>",
        b"\xff\xff",
        b"[" * 100_000,
        [],
        "abc",
        {"jsonrpc": "2.0", "id": 6, "result": "abc"},
        {"jsonrpc": "2.0", "id": "5", "result": "abc"},
        {"jsonrpc": "2.0", "id": None, "result": "abc"},
        {"jsonrpc": "2.0", "result": "abc"},
        {"jsonrpc": "1.0", "id": 5, "result": "abc"},
        {"id": 5, "result": "abc"},
        {"jsonrpc": "2.0", "id": 5},
        {"jsonrpc": "2.0", "id": 5, "result": 5},
        {"jsonrpc": "2.0", "id": 5, "error": "no"},
        {"jsonrpc": "2.0", "id": 5, "error": {"code": "x"}},
        [{"jsonrpc": "2.0", "id": 5, "result": "abc"}],
    ],
)
def test_an_answer_that_cannot_be(body):
    with pytest.raises(MalformedAnswer, match=r"rpc\.example: getGenesisHash"):
        opened(body)


def test_true_is_not_the_id_1():
    with pytest.raises(MalformedAnswer):
        open_answer(ENDPOINT, CALL, 1, b'{"jsonrpc": "2.0", "id": true, "result": "abc"}')


@pytest.mark.parametrize("code", [-32005, -32004, -32016, -32603, -32000, 429, 0])
@pytest.mark.parametrize("ident", [5, None])
def test_an_error_that_another_node_need_not_have(code, ident):
    with pytest.raises(NodeFault, match=f"error {code}: behind"):
        opened({"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": "behind"}})


@pytest.mark.parametrize("code", [-32600, -32601, -32602])
def test_an_error_of_ours(code):
    with pytest.raises(CallRejected):
        opened({"jsonrpc": "2.0", "id": 5, "error": {"code": code, "message": "wrong", "data": [1]}})


def test_a_message_cannot_tell_our_secrets():
    with pytest.raises(NodeFault) as caught:
        opened({"jsonrpc": "2.0", "id": 5, "error": {"code": 1, "message": "bad key path-secret"}})
    assert "path-secret" not in str(caught.value)
