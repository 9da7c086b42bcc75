"""Wallet sessions: registered idempotently, strict, bounded, and each one's token its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid

from store import sessions
from tests.api.world import AGENT, MAINNET, WALLET, address, new_id, payment, send

BODY = {
    "wallet": WALLET,
    "network": MAINNET,
    "token_hash": hashlib.sha256(b"token").hexdigest(),
    "scope": {"permissions": ["pay"], "tx_limit": 40, "duration_s": 3600},
    "tx_used": 0,
    "status": "active",
    "delegated_at": "2026-11-20T12:00:00.000Z",
    "expires_at": "2026-11-20T13:00:00.000Z",
    "revoked_at": None,
}
ROWS = "SELECT * FROM tollwatch.wallet_sessions ORDER BY created_at, id"


def body(**more):
    made = BODY | {"token_hash": uuid.uuid4().hex * 2} | more
    return {name: value for name, value in made.items() if value is not ...}


def path(session_id, agent=AGENT):
    return f"/v1/agents/{agent}/sessions/{session_id}"


async def test_a_session_is_made_changed_and_left_alone(client, query):
    session_id = new_id()
    made = await client.put(path(session_id), json=BODY)
    answer = {name: value for name, value in BODY.items() if name != "token_hash"}
    assert (made.status_code, made.json()) == (201, {"agent": AGENT, "id": session_id, **answer})
    (first,) = await query(ROWS)
    assert (first.token_hash.hex(), first.scope, first.tx_used) == (BODY["token_hash"], BODY["scope"], 0)
    assert first.expires_at.isoformat() == "2026-11-20T13:00:00+00:00"

    same = await client.put(path(session_id), json=BODY | {"expires_at": "2026-11-20T14:00:00.0009+01:00"})
    assert (same.status_code, same.json()) == (200, made.json())
    assert (await query(ROWS)) == [first]

    revoked = BODY | {"tx_used": 7, "status": "revoked", "revoked_at": "2026-11-20T12:30:00.000Z"}
    changed = await client.put(path(session_id.upper()), json=revoked)
    assert (changed.status_code, changed.json()["tx_used"], changed.json()["status"]) == (200, 7, "revoked")
    (last,) = await query(ROWS)
    assert (last.id, last.tx_used, last.created_at) == (first.id, 7, first.created_at)
    assert last.updated_at > first.updated_at


async def test_what_is_left_out_gets_its_default(client, query):
    least = {"wallet": WALLET, "token_hash": "AB" * 32, "status": "expired"}
    made = await client.put(path(new_id()), json=least)
    assert made.status_code == 201
    assert made.json()["scope"] == {"permissions": [], "tx_limit": None, "duration_s": None}
    (row,) = await query(ROWS)
    assert (row.token_hash, row.tx_used, row.delegated_at, row.expires_at) == (b"\xab" * 32, 0, None, None)


async def test_the_widest_session_is_kept_and_read_by_the_views(client, query):
    scope = {"permissions": [f"{n:0100}" for n in range(20)], "tx_limit": 2**31 - 1, "duration_s": 2**31 - 1}
    session_id = str(uuid.uuid4())
    wide = body(
        scope=scope,
        tx_used=2**31 - 1,
        delegated_at="0001-01-01T00:00:00Z",
        expires_at="9999-12-31T23:59:59.999999Z",
    )
    made = await client.put(path(session_id), json=wide)
    assert (made.status_code, made.json()["expires_at"]) == (201, "9999-12-31T23:59:59.999Z")
    await send(client, payment(session=session_id))
    found = await query("SELECT status, tx_limit, tx_used, tx_settled FROM tollwatch.session_usage")
    assert found == [("active", 2**31 - 1, 2**31 - 1, 1)]


WRONG = [
    {"wallet": ...},
    {"wallet": None},
    {"wallet": "xyz"},
    {"wallet": "\0"},
    {"network": "eip155:1"},
    {"network": "solana:a\n"},
    {"token_hash": ...},
    {"token_hash": "ab" * 31},
    {"token_hash": "ab" * 33},
    {"token_hash": "gg" * 32},
    {"token_hash": "ab" * 32 + "\n"},
    {"token_hash": 17},
    {"scope": None},
    {"scope": []},
    {"scope": {"permission": []}},
    {"scope": {"permissions": ["a"] * 21}},
    {"scope": {"permissions": ["a" * 101]}},
    {"scope": {"permissions": [""]}},
    {"scope": {"permissions": ["a\0"]}},
    {"scope": {"permissions": [1]}},
    {"scope": {"permissions": "pay"}},
    {"scope": {"tx_limit": -1}},
    {"scope": {"tx_limit": 2**31}},
    {"scope": {"tx_limit": 1.0}},
    {"scope": {"tx_limit": "40"}},
    {"scope": {"duration_s": -1}},
    {"scope": {"duration_s": 10**30}},
    {"tx_used": -1},
    {"tx_used": 2**31},
    {"tx_used": True},
    {"tx_used": None},
    {"status": ...},
    {"status": "paused"},
    {"delegated_at": 1_700_000_000},
    {"delegated_at": "2026-11-20T12:00:00"},
    {"delegated_at": "infinity"},
    {"expires_at": "9999-12-31T23:59:59-01:00"},
    {"revoked_at": ""},
    {"token": "secret"},
    {"id": str(uuid.uuid4())},
]


async def test_a_wrong_body_is_a_problem_and_changes_nothing(client, query):
    for wrong in WRONG:
        response = await client.put(path(new_id()), json=body(**wrong))
        assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json"), wrong
        assert len(response.text) < 3000
    for content in (b"", b"{", b"[]", b"null", b'{"tx_used": NaN}', b"[" * 10_000, b"\xff"):
        response = await client.put(path(new_id()), content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), content[:10]
        assert response.headers["content-type"] == "application/problem+json"
    response = await client.put(path(new_id()), content=json.dumps(BODY) + " " * 70_000)
    assert (response.status_code, response.headers["content-type"]) == (413, "application/problem+json")
    assert (await client.put(path("17"), json=BODY)).status_code == 422
    assert await query(ROWS) == []


async def test_an_agent_and_a_wallet_must_be_registered_first(client, query):
    nobody = await client.put(path(new_id(), "nobody"), json=BODY)
    assert (nobody.status_code, "PUT /v1/agents/nobody first" in nobody.json()["detail"]) == (404, True)
    named = address()
    await send(client, payment(wallet=named))
    for wallet in (address(), named):
        response = await client.put(path(new_id()), json=BODY | {"wallet": wallet})
        assert response.status_code == 404
        assert f"PUT /v1/agents/{AGENT}/wallets/{wallet} first" in response.json()["detail"]
    assert (await client.put(path(new_id()), json=BODY | {"network": "solana:other"})).status_code == 404
    assert await query("SELECT count(*) FROM tollwatch.wallets") == [(2,)]


async def test_a_token_opens_one_session_of_a_project(client, connect, make_key, query):
    first, second = new_id(), new_id()
    assert (await client.put(path(first), json=BODY)).status_code == 201
    taken = await client.put(path(second), json=BODY)
    assert (taken.status_code, taken.json()["code"]) == (409, "token_taken")
    assert BODY["token_hash"] not in taken.text
    other = body()
    assert (await client.put(path(second), json=other)).status_code == 201
    assert (await client.put(path(second), json=BODY)).status_code == 409
    assert (await client.put(path(first), json=other)).status_code == 409
    assert {row.token_hash.hex() for row in await query(ROWS)} == {BODY["token_hash"], other["token_hash"]}
    async with connect(Authorization=f"Bearer {await make_key(project='elsewhere')}") as own:
        await own.put(f"/v1/agents/{AGENT}", json={})
        assert (await own.put(path(first), json=BODY)).status_code == 404  # the wallet is another project's
        await own.put(f"/v1/agents/{AGENT}/wallets/{WALLET}", json={})
        assert (await own.put(path(first), json=BODY)).status_code == 201


async def test_a_session_stays_with_its_agent(client, query):
    session_id = new_id()
    await client.put("/v1/agents/other", json={})
    await client.put(path(session_id), json=BODY)
    response = await client.put(path(session_id, "other"), json=BODY | {"tx_used": 5})
    assert (response.status_code, response.json()["code"]) == (409, "session_taken")
    assert AGENT in response.json()["detail"]
    assert [row.tx_used for row in await query(ROWS)] == [0]


async def test_many_clients_may_put_the_same_session_at_once(client, query):
    session_id, one_token = new_id(), body()
    same = await asyncio.gather(*(client.put(path(session_id), json=BODY) for _ in range(8)))
    assert sorted(response.status_code for response in same) == [200] * 7 + [201]
    rivals = await asyncio.gather(*(client.put(path(new_id()), json=one_token) for _ in range(8)))
    assert sorted(response.status_code for response in rivals) == [201] + [409] * 7
    assert len(await query(ROWS)) == 2


async def test_sessions_are_bounded(client, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    session_id = new_id()
    assert (await client.put(path(session_id), json=BODY)).status_code == 201
    full = await client.put(path(new_id()), json=body())
    assert (full.status_code, full.json()["code"]) == (422, "invalid_value")
    assert (await client.put(path(session_id), json=BODY | {"tx_used": 1})).status_code == 200


async def test_a_secret_in_a_permission_is_redacted(client, query):
    scope = {"permissions": ["pay?api_key=hunter2hunter2hunter2"]}
    response = await client.put(path(new_id()), json=body(scope=scope))
    ((stored,),) = await query("SELECT scope::text FROM tollwatch.wallet_sessions")
    assert "hunter2" not in stored + response.text


async def test_a_session_needs_a_key_that_may_ingest(connect, anonymous, client, make_key):
    assert (await anonymous.put(path(new_id()), json=BODY)).status_code == 401
    for scope, status in (("read", 403), ("metrics", 403), ("ingest:facilitator", 403), ("ingest", 201)):
        async with connect(Authorization=f"Bearer {await make_key(scope)}") as own:
            assert (await own.put(path(new_id()), json=BODY)).status_code == status, scope
