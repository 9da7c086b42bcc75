from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from collector.endpoints import EndpointPool, RestPolicy
from collector.rpc import MAX_ACCOUNTS, MAX_TRIES, SolanaRpc
from collector.rpc_errors import CallRejected, NoEndpoint
from collector.transport import Transport
from store.deadlines import Deadlines
from store.settings import SOLANA_MAINNET
from tests.collector.chain import CASH, TOKEN_2022_PROGRAM_ID, USDC
from tests.collector.node import MAINNET_GENESIS, Node, Reply, at_slot, error, result
from tests.collector.seeds import count, eventually

QUICK = RestPolicy(base=0.01, most=0.05, retry_after_most=0.5, wrong_chain=300.0)
DEVNET_GENESIS = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
WALLET = bytes([7]) * 32
HTML = Reply(b"<html><body>Just a moment...</body></html>", headers={"content-type": "text/html"})


@pytest.fixture
async def connect(registry):
    """A client of some URLs; closed at the end."""
    transport = Transport()

    def make(*urls, policy=QUICK, **deadlines):
        pool = EndpointPool(urls, policy)
        return SolanaRpc(pool, SOLANA_MAINNET, replace(Deadlines(), **deadlines), registry, transport)

    yield make
    await transport.close()


def slot_of(call):
    return result(call, 77)


def tries(registry, node, outcome, method="getSlot"):
    return count(registry, "tollwatch_rpc_requests_total", endpoint=node.label, method=method, outcome=outcome)


async def test_the_real_chain_answers_every_method(connect, chain, registry):
    rpc = connect(chain.url)
    assert await rpc.get_genesis_hash() == chain.call("getGenesisHash")
    await rpc.get_health()
    slot = await rpc.get_slot()
    account = await rpc.get_account_info(bytes(CASH), head=82)
    both = await rpc.get_multiple_accounts([bytes(USDC), WALLET, bytes(CASH)], head=50)
    assert slot <= account.slot <= both.slot
    assert account.accounts[0].owner == bytes(TOKEN_2022_PROGRAM_ID)
    assert [item and len(item.data) for item in both.accounts] == [50, None, 50]
    label = chain.url.removeprefix("http://")
    labels = {"endpoint": label, "method": "getMultipleAccounts"}
    assert count(registry, "tollwatch_rpc_requests_total", outcome="ok", **labels) == 1
    assert count(registry, "tollwatch_rpc_duration_seconds_count", **labels) == 1


async def test_the_genesis_hash_is_asked_for_once(connect):
    async with Node(slot_of) as node:
        rpc = connect(node.url())
        await asyncio.gather(*(rpc.get_slot() for _ in range(5)))
        assert node.methods.count("getGenesisHash") == 1
        assert node.methods.count("getSlot") == 5


FAULTS = {
    "rate_limited": Reply(b"", 429),
    "refused": Reply(b"", 403),
    "http_error": Reply(b"oops", 502),
    "malformed": HTML,
}


@pytest.mark.parametrize("outcome", FAULTS)
async def test_a_fault_rests_the_endpoint_and_the_next_one_answers(connect, registry, outcome):
    async with Node(lambda _: FAULTS[outcome]) as bad, Node(slot_of) as good:
        rpc = connect(bad.url(), good.url(), policy=RestPolicy(base=30.0))
        assert [await rpc.get_slot() for _ in range(3)] == [77] * 3
        assert bad.methods.count("getSlot") == 1
        assert tries(registry, bad, outcome) == 1
        assert tries(registry, good, "ok") == 3


@pytest.mark.parametrize("code", [-32005, -32004, -32016, -32603, -32099])
async def test_an_error_envelope_in_a_200_is_a_fault_too(connect, registry, code):
    async with Node(lambda call: error(call, code)) as bad, Node(slot_of) as good:
        assert await connect(bad.url(), good.url()).get_slot() == 77
        assert tries(registry, bad, "rpc_error") == 1


LIES = {
    "another call's answer": lambda call: result(call | {"id": call["id"] + 1}, 77),
    "a text": lambda call: result(call, "77"),
    "nothing": lambda call: Reply(b""),
    "a batch": lambda call: Reply(b"[]"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_malformed_and_the_next_one_answers(connect, registry, lie):
    async with Node(LIES[lie]) as bad, Node(slot_of) as good:
        assert await connect(bad.url(), good.url()).get_slot() == 77
        assert tries(registry, bad, "malformed") == 1


async def test_an_array_of_another_length_is_malformed(connect, registry):
    async with Node(lambda call: at_slot(call, [None])) as bad, Node(lambda call: at_slot(call, [None] * 2)) as good:
        found = await connect(bad.url(), good.url()).get_multiple_accounts([WALLET, WALLET], head=72)
        assert found.accounts == [None, None]
        assert tries(registry, bad, "malformed", "getMultipleAccounts") == 1


@pytest.mark.parametrize("code", [-32600, -32601, -32602])
async def test_our_own_fault_is_not_tried_again(connect, registry, code):
    async with Node(lambda call: error(call, code, "no such thing")) as first, Node(slot_of) as second:
        rpc = connect(first.url(), second.url())
        with pytest.raises(CallRejected, match="no such thing"):
            await rpc.get_slot()
        assert tries(registry, first, "rejected") == 1
        assert second.calls == []
        assert first.methods.count("getSlot") == 1


async def test_more_accounts_than_a_node_takes_are_not_sent(connect):
    with pytest.raises(CallRejected):
        await connect("http://127.0.0.1:9").get_multiple_accounts([WALLET] * (MAX_ACCOUNTS + 1), head=72)


async def test_retry_after_is_honoured(connect):
    times = []

    def answer(call):
        times.append(time.monotonic())
        return Reply(b"", 429, {"retry-after": "0.3"}) if len(times) == 1 else result(call, 77)

    async with Node(answer) as node:
        assert await connect(node.url()).get_slot() == 77
    assert times[1] - times[0] >= 0.3


async def test_a_rest_beyond_the_deadline_is_not_waited_for(connect):
    async with Node(lambda _: Reply(b"", 429, {"retry-after": "3600"})) as node:
        rpc = connect(node.url(), policy=RestPolicy())
        started = time.monotonic()
        with pytest.raises(NoEndpoint, match="HTTP 429"):
            await rpc.get_slot()
        with pytest.raises(NoEndpoint):
            await rpc.get_slot()
        assert time.monotonic() - started < 5
        assert node.methods.count("getSlot") == 1


async def test_tries_are_bounded(connect):
    async with Node(lambda _: Reply(b"", 500)) as node:
        with pytest.raises(NoEndpoint, match=f"{node.label}: HTTP 500"):
            await connect(node.url()).get_slot()
        assert node.methods.count("getSlot") == MAX_TRIES


async def test_a_node_that_hangs_ends_at_the_deadline(connect, registry):
    async with Node(lambda _: Reply(hang=True)) as node:
        started = time.monotonic()
        with pytest.raises(NoEndpoint, match="no answer to getSlot within"):
            await connect(node.url(), rpc=0.3).get_slot()
        assert 0.25 < time.monotonic() - started < 5
        assert tries(registry, node, "timeout") == 1


async def test_a_node_that_hangs_leaves_time_for_the_next(connect):
    async with Node(lambda _: Reply(hang=True)) as bad, Node(slot_of) as good:
        assert await connect(bad.url(), good.url(), rpc=2.0).get_slot() == 77


async def test_nobody_there(connect, registry):
    async with Node(slot_of) as node:
        pass
    with pytest.raises(NoEndpoint, match="ConnectError"):
        await connect(node.url()).get_slot()
    assert tries(registry, node, "unreachable", "getGenesisHash") == MAX_TRIES


async def test_an_endpoint_of_another_chain_is_not_used(connect, registry, caplog):
    async with Node(slot_of, genesis=DEVNET_GENESIS) as other, Node(slot_of) as good:
        rpc = connect(other.url(), good.url())
        assert await rpc.get_slot() == 77
        assert other.methods == ["getGenesisHash"]
        assert tries(registry, other, "wrong_chain", "getGenesisHash") == 1
    (record,) = [item for item in caplog.records if item.levelno == logging.ERROR]
    assert record.message == "endpoint_wrong_chain"
    assert DEVNET_GENESIS[:32] in str(record.tollwatch_fields["error"])


@pytest.mark.parametrize("genesis", [DEVNET_GENESIS, MAINNET_GENESIS[:31], "", Reply(hang=True), HTML])
async def test_without_the_right_genesis_hash_there_is_no_answer(connect, genesis):
    async with Node(slot_of, genesis=genesis) as node:
        with pytest.raises(NoEndpoint):
            await connect(node.url(), rpc=0.5).get_slot()
        assert "getSlot" not in node.methods


async def test_after_a_failure_the_genesis_hash_is_asked_for_again(connect):
    """Behind the same URL may be another node by now."""
    answers = [result, lambda call, _: Reply(b"", 502)]

    async with Node(lambda call: answers.pop(0)(call, 77)) as node:
        rpc = connect(node.url(), rpc=1.0)
        assert await rpc.get_slot() == 77
        node.genesis = DEVNET_GENESIS
        with pytest.raises(NoEndpoint, match="it serves"):
            await rpc.get_slot()
        assert node.methods == ["getGenesisHash", "getSlot", "getSlot", "getGenesisHash"]


async def test_secrets_are_in_no_error_log_or_label(connect, registry, caplog):
    """The node echoes what it was sent, the URL's secrets included."""
    caplog.set_level(logging.DEBUG, "collector")
    async with Node(lambda call: error(call, -32603, f"bad key {node.lines[-1]} hunter2")) as node:
        url = node.url("/v2/pathsecret/?api-key=querysecret").replace("127", "username:hunter2@127", 1)
        with pytest.raises(NoEndpoint) as caught:
            await connect(url).get_slot()
        assert "querysecret" in node.lines[-1]
    told = [str(caught.value), str(caught.value.__cause__), str(caught.value.__context__)]
    told += [str(vars(record)) for record in caplog.records if record.name.startswith("collector")]
    told += [str(sample) for family in registry.collect() for sample in family.samples]
    assert len(told) > 4
    for secret in ("pathsecret", "querysecret", "hunter2", "username"):
        assert not any(secret in text for text in told)


async def test_a_cancelled_call_is_counted(connect, registry):
    async with Node(lambda _: Reply(hang=True)) as node:
        task = asyncio.create_task(connect(node.url()).get_slot())
        await eventually(lambda: "getSlot" in node.methods)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tries(registry, node, "cancelled") == 1
