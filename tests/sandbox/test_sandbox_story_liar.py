"""Liar: claims that the chain does not know, beside true ones."""

import pytest
import pytest_asyncio
from story_tools import told

CYCLES = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tale():
    async with told("liar", cycles=CYCLES) as one:
        yield one


@pytest.mark.asyncio(loop_scope="module")
async def test_the_chain_knows_the_true_claims_and_only_those(tale):
    account, settled = tale.account("liar"), tale.ended("settled")
    false = {one["payment_id"]: one["signature"] for one in account["false_payments"]["items"]}
    true = {one["payment_id"]: one["signature"] for one in account["settled_payments"]["items"]}
    assert (len(false), len(true)) == (CYCLES, 3 * CYCLES)
    assert {ident: one["signature"] for ident, one in settled.items()} == false | true
    for ident, signature in true.items():
        assert await tale.spent(signature, account["wallet"], account["mint"]) == int(settled[ident]["amount"])
    for signature in false.values():
        assert await tale.spent(signature, account["wallet"], account["mint"]) is None
    statuses = await tale.rpc.call("getSignatureStatuses", list(false.values()))
    assert statuses["value"] == [None] * CYCLES


@pytest.mark.asyncio(loop_scope="module")
async def test_the_lies_cost_nothing(tale):
    account = tale.account("liar")
    assert account["payments"]["settled"] == 3 * CYCLES
    true = [one["payment_id"] for one in account["settled_payments"]["items"]]
    assert account["spent"] == str(sum(int(tale.ended("settled")[ident]["amount"]) for ident in true))


def test_a_lie_looks_like_any_other_purchase(tale):
    """What tells them apart is the chain, and nothing in the report."""
    shapes = {}
    false = {one["payment_id"] for one in tale.account("liar")["false_payments"]["items"]}
    for one in tale.recorder.of_type("payment"):
        shapes.setdefault((one["payment_id"] in false, one["status"]), set()).add(frozenset(one))
    for status in ("pending", "settled"):
        assert shapes[True, status] == shapes[False, status]
    requests = {one["payment_id"]: one for one in tale.recorder.of_type("api_request")}
    for ident in false:
        assert (requests[ident]["outcome"], requests[ident]["paid"]) == ("ok", True)
        assert requests[ident]["response_status"] == 200
    assert not tale.audits()
