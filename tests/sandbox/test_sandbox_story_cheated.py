"""Cheated: payments that nobody here knows the end of, and a wallet session with a small limit."""

import collections

import pytest
import pytest_asyncio
from story_tools import told

CYCLES = 2
LIMIT = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tale():
    async with told("cheated", cycles=CYCLES) as one:
        yield one


@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_payments_moved_money_on_the_chain(tale):
    account = tale.account("cheated")
    unknown = tale.ended("unknown")
    noted = account["unknown_payments"]["items"]
    assert [one["payment_id"] for one in noted] == list(unknown)
    assert collections.Counter(one["error_type"] for one in noted) == {
        "upstream_error": CYCLES, "timeout": CYCLES, "other": CYCLES,
    }  # fmt: skip
    for one in noted:
        assert "signature" not in unknown[one["payment_id"]], "the agent cannot know it"
        assert one["chain"]["err"] is None
        assert one["chain"]["spent"] == one["amount"] == "1500"
        assert await tale.spent(one["signature"], account["wallet"], account["mint"]) == 1500


@pytest.mark.asyncio(loop_scope="module")
async def test_the_others_are_as_settled_as_they_claim(tale):
    account, settled = tale.account("cheated"), tale.ended("settled")
    assert len(settled) == 3 * CYCLES
    for one in settled.values():
        assert await tale.spent(one["signature"], account["wallet"], account["mint"]) == 1500
    assert account["payments"] == {"settled": 3 * CYCLES, "failed": 0, "unknown": 3 * CYCLES}


def test_each_is_a_payment_failure_in_the_audit_trail(tale):
    said = [(one["entity_id"], one["details"]["error_type"]) for one in tale.audits("payment_failure")]
    assert said == [(one["payment_id"], one["error_type"]) for one in tale.ended("unknown").values()]
    assert {one["severity"] for one in tale.audits("payment_failure")} == {"error"}


def test_an_unknown_payment_is_not_made_again(tale):
    by_request = collections.Counter(one["request_id"] for one in tale.recorder.of_type("api_request"))
    assert set(by_request.values()) == {1}


def test_the_session_limit_is_met_and_a_new_session_begun(tale):
    account = tale.account("cheated")
    refused = [one for one in tale.recorder.of_type("api_request") if one.get("error_type") == "session_limit"]
    assert len(refused) == 6 * CYCLES // LIMIT
    for one in refused:
        assert (one["outcome"], one["paid"]) == ("failed", False)
        assert not {"payment_id", "response_status", "latency_ms"} & set(one)
    reached = tale.audits("session_limit_reached")
    assert [one["request_id"] for one in reached] == [one["request_id"] for one in refused]
    assert [one["entity_id"] for one in reached] == [one["session"] for one in refused]
    sessions = [one["entity_id"] for one in tale.audits("session_created")]
    assert [one["id"] for one in account["sessions"]["items"]] == sessions
    assert sessions[: len(reached)] == [one["entity_id"] for one in tale.audits("session_revoked")]


def test_payments_name_their_session_and_none_has_more_than_its_limit(tale):
    used = collections.Counter(one["session"] for one in tale.recorder.of_type("payment") if one["status"] == "pending")
    noted = tale.account("cheated")["sessions"]["items"]
    assert used == {one["id"]: one["tx_used"] for one in noted}
    assert max(used.values()) == LIMIT
    last = {path.rsplit("/", 1)[1]: body for path, body in tale.recorder.puts if "/sessions/" in path}
    for one in noted:
        body = last[one["id"]]
        assert body["scope"] == {"permissions": ["pay"], "tx_limit": LIMIT, "duration_s": 3600}
        assert (body["status"], len(body["token_hash"])) == (one["status"], 64)
        assert (body["revoked_at"] is None) == (one["status"] == "active")
        if one["status"] == "revoked":
            assert body["tx_used"] == one["tx_used"]
    assert len({body["token_hash"] for body in last.values()}) == len(noted)
