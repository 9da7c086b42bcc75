"""Registration: idempotent, strict, bounded, and exact about money."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from store import registry
from tests.api.world import AGENT, MAINNET, WALLET, address, payment, send

AGENT_BODY = {
    "network": MAINNET,
    "autonomy_phase": "full",
    "api_endpoints": [{"name": "market", "url": "https://market.example.com", "priority": 1}],
    "priority_rules": {"funds_threshold": "5000000", "freshness_window_s": 60},
    "max_retries": 5,
    "low_balance_threshold": "0.25",
    "breaker_timeout_s": 120,
    "active": False,
}
COLUMNS = "SELECT *, low_balance_threshold::text AS threshold FROM tollwatch.agents WHERE name = :name"


async def test_an_agent_is_made_changed_and_left_alone(client, query):
    made = await client.put("/v1/agents/new", json=AGENT_BODY)
    assert (made.status_code, made.json()) == (201, {"name": "new", **AGENT_BODY})
    (first,) = await query(COLUMNS, name="new")
    assert (first.autonomy_phase, first.max_retries, first.active) == ("full", 5, False)
    assert (first.priority_rules, first.api_endpoints) == (AGENT_BODY["priority_rules"], AGENT_BODY["api_endpoints"])

    same = await client.put("/v1/agents/new", json=AGENT_BODY | {"name": "new"})
    assert (same.status_code, same.json()) == (200, made.json())
    assert (await query(COLUMNS, name="new")) == [first]

    changed = await client.put("/v1/agents/new", json={"max_retries": 7})
    assert (changed.status_code, changed.json()["max_retries"], changed.json()["autonomy_phase"]) == (200, 7, "demo")
    (last,) = await query(COLUMNS, name="new")
    assert (last.id, last.max_retries, last.threshold[:4]) == (first.id, 7, "0.01")
    assert last.updated_at > first.updated_at


async def test_many_clients_may_put_the_same_agent_at_once(client, query):
    responses = await asyncio.gather(*(client.put("/v1/agents/new", json=AGENT_BODY) for _ in range(8)))
    assert sorted(response.status_code for response in responses) == [200] * 7 + [201]
    assert len(await query(COLUMNS, name="new")) == 1


EXACT = [
    ('"0.01"', "0.01"),
    ("0.01", "0.01"),
    ("1", "1"),
    ("0", "0"),
    ("0.123456789012345678", "0.123456789012345678"),
    ("12345678901234567890.5", "12345678901234567890.5"),
    ('"1.50"', "1.50"),
]


async def test_a_threshold_is_kept_to_the_digit(client, query):
    for sent, kept in EXACT:
        response = await client.put(
            "/v1/agents/a", content=f'{{"low_balance_threshold": {sent}}}', headers={"Content-Type": "application/json"}
        )
        assert (response.is_success, response.json()["low_balance_threshold"]) == (True, kept)
        ((stored,),) = await query("SELECT low_balance_threshold FROM tollwatch.agents WHERE name = 'a'")
        assert stored == Decimal(kept)


WRONG_AGENTS = [
    '{"low_balance_threshold": 1e3}',
    '{"low_balance_threshold": "1e3"}',
    '{"low_balance_threshold": -1}',
    '{"low_balance_threshold": "-0.01"}',
    '{"low_balance_threshold": 1e-19}',
    '{"low_balance_threshold": 1e999999999}',
    '{"low_balance_threshold": "0.0000000000000000001"}',
    '{"low_balance_threshold": "123456789012345678901"}',
    '{"low_balance_threshold": true}',
    '{"low_balance_threshold": ""}',
    '{"low_balance_threshold": "."}',
    '{"low_balance_threshold": "NaN"}',
    '{"low_balance_threshold": null}',
    '{"max_retries": "3"}',
    '{"max_retries": 3.0}',
    '{"max_retries": -1}',
    '{"max_retries": 1e9}',
    '{"max_retries": 99999999999999999999}',
    '{"breaker_timeout_s": true}',
    '{"active": "yes"}',
    '{"autonomy_phase": "god"}',
    '{"network": "eip155:8453"}',
    '{"network": "solana:a\\n"}',
    '{"nam": "a"}',
    '{"name": "b"}',
    '{"api_endpoints": [{"name": "a", "url": "ftp://x"}]}',
    '{"api_endpoints": [{"name": "a\\u0000", "url": "http://x"}]}',
    '{"api_endpoints": [{"url": "http://x"}]}',
    '{"api_endpoints": {}}',
    '{"priority_rules": {"funds_threshold": 1.5}}',
    '{"priority_rules": {"funds_threshold": "007"}}',
    '{"priority_rules": {"x": 1}}',
    "[]",
    "null",
    "",
    "{",
    "NaN",
    '"\\ud800"',
    "[" * 10_000,
    '{"a": "\xff"}',
]


async def test_a_wrong_body_is_a_problem_and_changes_nothing(client, query):
    for body in WRONG_AGENTS:
        response = await client.put(
            "/v1/agents/a", content=body.encode("latin-1"), headers={"Content-Type": "application/json"}
        )
        assert response.status_code in (400, 422), (body[:60], response.text)
        assert response.headers["content-type"] == "application/problem+json"
        assert len(response.text) < 3000
    assert await query("SELECT count(*) FROM tollwatch.agents") == [(1,)]


async def test_a_body_that_is_too_large_is_not_read(client):
    async def endless():
        for _ in range(20):
            yield b" " * 65_536

    for content in (b" " * 100_000, endless()):
        response = await client.put("/v1/agents/a", content=content, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.headers["content-type"]) == (413, "application/problem+json")


async def test_a_wrong_name_is_a_problem(client):
    for name in ("-a", "a%20b", "a" * 101, ".a", "a%00", "%C3%A9", "a%0A"):
        assert (await client.put(f"/v1/agents/{name}", json={})).status_code == 422, name


async def test_a_wallet_is_registered_with_its_thresholds(client, query):
    wallet, path = address(), f"/v1/agents/{AGENT}/wallets/"
    made = await client.put(path + wallet, json={"thresholds": {"USDC": "5000000", "CASH": 7}})
    assert made.status_code == 201
    assert made.json() == {
        "agent": AGENT,
        "address": wallet,
        "network": MAINNET,
        "thresholds": {"USDC": "5000000", "CASH": "7"},
    }
    same = await client.put(path + wallet, json={"thresholds": {"USDC": 5_000_000, "CASH": "7"}, "network": MAINNET})
    assert (same.status_code, same.json()) == (200, made.json())
    changed = await client.put(path + wallet, json={"thresholds": {"USDC": str(2**63 - 1)}})
    assert changed.status_code == 200
    found = await query(
        "SELECT s.symbol, t.amount FROM tollwatch.wallet_thresholds t JOIN tollwatch.assets s ON s.id = t.asset_id"
    )
    assert found == [("USDC", 2**63 - 1)]


async def test_a_wallet_that_events_named_can_be_registered(client, query):
    wallet = address()
    await send(client, payment(wallet=wallet))
    response = await client.put(f"/v1/agents/{AGENT}/wallets/{wallet}", json={})
    assert response.status_code == 201
    found = await query("SELECT w.registered FROM tollwatch.wallets w WHERE w.address_text = :w", w=wallet)
    assert found == [(True,)]
    await send(client, payment(wallet=wallet))
    assert await query("SELECT count(DISTINCT wallet_id) FROM tollwatch.payments") == [(1,)]


async def test_a_wallet_belongs_to_one_agent_of_a_project(client, connect, make_key, query):
    await client.put("/v1/agents/other", json={})
    response = await client.put(f"/v1/agents/other/wallets/{WALLET}", json={"thresholds": {"USDC": 1}})
    assert (response.status_code, response.json()["code"]) == (409, "wallet_taken")
    assert AGENT in response.json()["detail"]
    assert await query("SELECT count(*) FROM tollwatch.wallet_thresholds") == [(0,)]
    async with connect(Authorization=f"Bearer {await make_key(project='elsewhere')}") as own:
        await own.put(f"/v1/agents/{AGENT}", json={})
        assert (await own.put(f"/v1/agents/{AGENT}/wallets/{WALLET}", json={})).status_code == 201


async def test_two_agents_that_claim_a_wallet_at_once(client):
    wallet = address()
    await client.put("/v1/agents/other", json={})
    paths = [f"/v1/agents/{name}/wallets/{wallet}" for name in (AGENT, "other") * 3]
    statuses = [r.status_code for r in await asyncio.gather(*(client.put(path, json={}) for path in paths))]
    assert statuses.count(409) == 3
    assert statuses.count(201) == 1


WRONG_WALLETS = [
    (f"nobody/wallets/{WALLET}", {}, 404),
    (f"{AGENT}/wallets/xyz", {}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"network": "eip155:1"}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"thresholds": {"DOGE": 1}}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"thresholds": {"USDC": 2**63}}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"thresholds": {"USDC": -1}}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"thresholds": {"USDC": 1.5}}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"thresholds": {"USDC": True}}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"thresholds": {"\0": 1}}, 422),
    (f"{AGENT}/wallets/{WALLET}", {"threshold": {}}, 422),
]


async def test_a_wrong_wallet_is_a_problem(client):
    for path, body, status in WRONG_WALLETS:
        response = await client.put(f"/v1/agents/{path}", json=body)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), body


async def test_a_key_in_an_endpoint_is_redacted(client, query):
    body = {"api_endpoints": [{"name": "rpc", "url": "https://rpc.example.com/?api-key=abcdef0123456789"}]}
    response = await client.put("/v1/agents/a", json=body)
    ((stored,),) = await query("SELECT api_endpoints::text FROM tollwatch.agents WHERE name = 'a'")
    assert "abcdef0123456789" not in stored + response.text


async def test_agents_and_wallets_are_bounded(client, monkeypatch):
    monkeypatch.setattr(registry, "MAX_AGENTS", 1)
    monkeypatch.setattr(registry, "MAX_WALLETS", 1)
    assert (await client.put("/v1/agents/one-more", json={})).status_code == 422
    assert (await client.put(f"/v1/agents/{AGENT}", json={"max_retries": 1})).status_code == 200
    assert (await client.put(f"/v1/agents/{AGENT}/wallets/{address()}", json={})).status_code == 422
    assert (await client.put(f"/v1/agents/{AGENT}/wallets/{WALLET}", json={})).status_code == 200


async def test_an_archived_agent_comes_back(client, query):
    await query("UPDATE tollwatch.agents SET archived_at = now()")
    assert (await client.put(f"/v1/agents/{AGENT}", json={})).status_code == 200
    assert await query("SELECT archived_at FROM tollwatch.agents") == [(None,)]


async def test_projects_do_not_see_each_other(client, connect, make_key):
    async with connect(Authorization=f"Bearer {await make_key(project='elsewhere')}") as own:
        answer = await send(own, payment())
    assert answer["rejected"][0]["code"] == "unknown_agent"
