"""Who may do what: keys, scopes, the sandbox's key, and what happens while the database is away."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from store.errors import InvalidValue
from store.keys import MAX_KEYS, Keys, create_key, new_key_text
from store.settings import SANDBOX_PROJECT, Settings
from store.startup import prepare_sandbox
from tests.api.world import AGENT, PROJECT, WALLET, payment, send

ROUTES = [
    ("POST", "/v1/events", {"ingest", "ingest:facilitator"}),
    ("PUT", "/v1/agents/a", {"ingest", "admin"}),
    ("PUT", f"/v1/agents/{AGENT}/wallets/{WALLET}", {"ingest", "admin"}),
    ("GET", "/v1/payments", {"read"}),
]


async def call(client, method, path):
    return await client.request(method, path, json=[] if method == "POST" else {})


async def test_every_route_takes_its_scopes_and_no_others(client, connect, make_key):
    for scope in ("ingest", "ingest:facilitator", "read", "metrics", "admin"):
        async with connect(Authorization=f"Bearer {await make_key(scope)}") as own:
            for method, path, scopes in ROUTES:
                response = await call(own, method, path)
                if scope in scopes:
                    assert response.is_success, (scope, path, response.text)
                    continue
                assert (response.status_code, response.json()["code"]) == (403, "missing_scope"), (scope, path)


NOT_KEYS = [
    (None, "missing_key"),
    ("", "missing_key"),
    ("Basic dTpw", "missing_key"),
    ("Bearer", "missing_key"),
    ("Bearer x", "invalid_key"),
    (f"Bearer {new_key_text()}", "invalid_key"),
    ("Bearer tollwatch-dev", "invalid_key"),
    ("Bearer tw_\u00e9", "invalid_key"),
]


async def test_without_a_working_key_there_is_nothing(anonymous):
    for header, code in NOT_KEYS:
        headers = {} if header is None else {"Authorization": header.encode()}
        for method, path, _ in ROUTES:
            response = await anonymous.request(method, path, json={}, headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, code), (header, path)
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.headers["content-type"] == "application/problem+json"


async def test_only_the_hash_of_a_key_is_stored(make_key, query):
    key = await make_key("read")
    ((stored, prefix),) = await query("SELECT hash, prefix FROM tollwatch.api_keys")
    assert stored == hashlib.sha256(key.encode()).digest()
    assert (prefix, len(key)) == (key[:11], 55)
    (whole,) = (await query("SELECT k::text FROM tollwatch.api_keys k"))[0]
    assert key[11:] not in whole


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
async def test_a_key_that_is_revoked_or_expires_stops_within_five_seconds(client, query, clock, column):
    assert (await call(client, "POST", "/v1/events")).status_code == 200
    await query(f"UPDATE tollwatch.api_keys SET {column} = :now", now=clock.now)
    clock.advance(5)
    response = await call(client, "POST", "/v1/events")
    assert (response.status_code, response.json()["code"]) == (401, "invalid_key")
    assert ("revoked" if column == "revoked_at" else "expired") in response.json()["detail"]


async def test_a_key_expires_at_its_time_also_from_the_cache(client, query, clock):
    await query("UPDATE tollwatch.api_keys SET expires_at = :at", at=clock.now.replace(microsecond=0))
    clock.advance(10)
    assert (await call(client, "POST", "/v1/events")).status_code == 401


async def test_a_new_key_works_soon_after_it_was_tried_in_vain(connect, app, query, make_key, clock):
    key = new_key_text()
    async with connect(Authorization=f"Bearer {key}") as own:
        assert (await call(own, "POST", "/v1/events")).status_code == 401
        await make_key("ingest")
        await query("UPDATE tollwatch.api_keys SET hash = :hash", hash=hashlib.sha256(key.encode()).digest())
        clock.advance(3)
        assert (await call(own, "POST", "/v1/events")).status_code == 200


async def test_a_clock_that_is_set_back_makes_nothing_fresh(client, query, clock):
    assert (await call(client, "POST", "/v1/events")).status_code == 200
    await query("UPDATE tollwatch.api_keys SET revoked_at = now()")
    clock.advance(-3600)
    assert (await call(client, "POST", "/v1/events")).status_code == 401


async def test_use_is_noted_once_a_minute(client, app, query, clock):
    async def noted():
        touching = app.state.tollwatch.keys._touching
        if touching is not None:
            await touching
        return (await query("SELECT last_used_at FROM tollwatch.api_keys"))[0][0]

    first = await noted()
    assert first is not None
    await query("UPDATE tollwatch.api_keys SET last_used_at = NULL")
    await call(client, "POST", "/v1/events")
    assert await noted() is None
    clock.advance(61)
    await call(client, "POST", "/v1/events")
    assert await noted() is not None


async def test_guesses_do_not_push_out_known_keys(app, engine, deadlines, clock, make_key):
    keys = Keys(engine, deadlines, clock)
    key = await make_key("read")
    assert (await keys.find(key)).scopes == {"read"}
    for _ in range(50):
        assert await keys.find(new_key_text()) is None
    assert (len(keys._known), len(keys._unknown)) == (1, 50)
    assert keys._unknown._size == MAX_KEYS
    await keys.close()


class TestAway:
    """The database is gone: connections are cut and new ones are refused."""

    @pytest.fixture
    def deadlines(self, deadlines):
        return replace(deadlines, connect=1, pool_checkout=1)

    @pytest.fixture
    def cut_off(self, server, database_url):
        name = database_url.rsplit("/", 1)[1]

        def cut():
            server.drop(name)

        return cut

    async def test_a_known_key_works_for_five_minutes_and_an_unknown_one_gets_503(
        self, client, connect, cut_off, clock, make_key
    ):
        unknown = await make_key("ingest")
        await send(client)
        cut_off()
        for seconds, status in ((30, 200), (260, 200), (20, 503)):
            clock.advance(seconds)
            assert (await call(client, "POST", "/v1/events")).status_code == status
        async with connect(Authorization=f"Bearer {unknown}") as own:
            assert (await call(own, "POST", "/v1/events")).status_code == 503

    async def test_not_ready_but_alive(self, client, cut_off):
        assert (await client.get("/readyz")).status_code == 200
        cut_off()
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert (await client.get("/healthz")).status_code == 200


class TestSandbox:
    @pytest.fixture
    async def settings(self, settings, deadlines):
        made = replace(settings, sandbox=True)
        await prepare_sandbox(made, deadlines)
        return made

    async def test_its_key_works_on_its_project_for_loopback_only(self, connect, query):
        cases = [
            ({}, 201),
            ({"Host": "localhost:8402"}, 200),
            ({"Host": "[::1]:8402"}, 200),
            ({"Host": "127.0.0.2"}, 200),
            ({"Origin": "http://127.0.0.1:8402"}, 200),
            ({"Origin": "http://localhost:3000"}, 200),
            ({"Host": "tollwatch.example.com"}, 401),
            ({"Host": "127.0.0.1.example.com"}, 401),
            ({"Host": "localhost.example.com"}, 401),
            ({"Host": "192.168.1.10:8402"}, 401),
            ({"Host": "0.0.0.0:8402"}, 401),
            ({"Host": ""}, 401),
            ({"Host": "localhost@example.com"}, 401),
            ({"Origin": "https://evil.example.com"}, 401),
            ({"Origin": "null"}, 401),
            ({"Origin": "http://localhost.example.com"}, 401),
            ({"Origin": ""}, 401),
        ]
        for headers, status in cases:
            async with connect(Authorization="Bearer tollwatch-dev", **headers) as own:
                response = await own.put("/v1/agents/demo", json={})
                assert response.status_code == status, (headers, response.text)
                assert status != 401 or "loopback" in response.json()["detail"]
        found = await query(
            "SELECT p.name, a.name FROM tollwatch.agents a JOIN tollwatch.projects p ON p.id = a.project_id"
        )
        assert found == [(SANDBOX_PROJECT, "demo")]

    async def test_it_has_every_scope(self, connect):
        async with connect(Authorization="Bearer tollwatch-dev") as own:
            await own.put(f"/v1/agents/{AGENT}", json={})
            answer = await send(own, payment(), payment(origin="facilitator"))
            assert answer["accepted"] == 2

    async def test_the_page_says_so(self, anonymous):
        assert "sandbox" in (await anonymous.get("/")).text

    async def test_a_key_may_be_made_for_its_project(self, make_key, connect):
        async with connect(
            Authorization=f"Bearer {await make_key(project=SANDBOX_PROJECT)}", Host="example.com"
        ) as own:
            assert (await own.put("/v1/agents/demo", json={})).status_code == 201


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scopes": ["ingest", "root"]}, "root.*there are ingest"),
        ({"scopes": []}, "needs a scope"),
        ({"project": SANDBOX_PROJECT}, "sandbox"),
        ({"project": "a b"}, "project"),
        ({"project": ""}, "project"),
        ({"name": ""}, "name"),
        ({"name": "a\0"}, "name"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(deadlines, wrong, says):
    settings = Settings(database_url="postgresql://nobody@192.0.2.1/nowhere")  # refused before anyone connects
    good = {"project": PROJECT, "name": "test", "scopes": ["read"]}
    with pytest.raises(InvalidValue, match=says):
        await create_key(settings, deadlines=deadlines, **(good | wrong))


async def test_two_keys_of_one_project(settings, deadlines, query):
    made = {await create_key(settings, project=PROJECT, name="k", scopes=["read"], deadlines=deadlines) for _ in "ab"}
    assert len(made) == 2
    assert await query("SELECT count(DISTINCT project_id), count(*) FROM tollwatch.api_keys") == [(1, 2)]
