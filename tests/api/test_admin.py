"""Keys through their life, by API and by command line: made, listed, rotated, expired, revoked; each change audited."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta

import httpx
import psycopg
import pytest

from api.app import create_app
from cli.keys import actor
from cli.main import main
from store.errors import NotFound
from store.keys import MAX_PROJECT_KEYS, KeyChanges, create_key
from tests.api.world import PROJECT, audit, rejection, send

EVENTS = """
SELECT event_type, entity_id, details, origin, severity, component, agent_id FROM tollwatch.audit_events
WHERE component = 'keys' ORDER BY ts, event_type DESC, id
"""


def in_text(moment):
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def admin(connect, settings, deadlines):
    """A client whose key has the scope admin alone, of any project; its own making is not in the audit log's answers."""

    async def make(project=PROJECT, **more):
        key = await create_key(
            settings, project=project, name="boss", scopes=["admin"], deadlines=deadlines, **more
        )  # fmt: skip
        client = connect(Authorization=f"Bearer {key}")
        client.prefix = key[:11]
        return client

    return make


async def status(connect, key):
    async with connect(Authorization=f"Bearer {key}") as own:
        return (await own.get("/v1/payments")).status_code


async def test_the_life_of_a_key(admin, connect, query, clock):
    boss = await admin()
    asked = {"name": "agents", "scopes": ["read", "ingest"], "expires_at": in_text(clock.now + timedelta(days=90)), "events_per_s": 50}  # fmt: skip
    made = await boss.post("/v1/keys", json=asked)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    told = made.json()
    assert made.headers["location"] == f"/v1/keys/{told['prefix']}"
    assert told.items() >= {"name": "agents", "scopes": ["ingest", "read"], "events_per_s": 50, "bytes_per_s": None, "created_by": f"key:{boss.prefix} boss", "last_used_at": None}.items()  # fmt: skip
    key = told.pop("key")
    assert key.startswith(told["prefix"])
    assert await status(connect, key) == 200

    listed = (await boss.get("/v1/keys")).json()
    assert [item["prefix"] for item in listed["items"]] == [told["prefix"], boss.prefix]
    assert listed["next"] is None
    shown = (await boss.get(f"/v1/keys/{told['prefix']}")).json()
    assert shown | {"last_used_at": None} == told
    clock.advance(1)

    rotated = await boss.post(f"/v1/keys/{told['prefix']}/rotate", json={"grace_s": 60})
    assert (rotated.status_code, rotated.headers["cache-control"]) == (201, "no-store")
    new = rotated.json()
    assert new["replaces"]["replaced_by"] == new["prefix"] != told["prefix"]
    assert new["replaces"]["expires_at"] == in_text(clock.now + timedelta(seconds=60))
    assert new["events_per_s"] == 50
    assert [await status(connect, each) for each in (key, new["key"])] == [200, 200]
    again = await boss.post(f"/v1/keys/{told['prefix']}/rotate")
    assert (again.status_code, again.json()["code"]) == (409, "not_rotatable")
    clock.advance(61)
    assert [await status(connect, each) for each in (key, new["key"])] == [401, 200]
    working = (await boss.get("/v1/keys", params={"working": True})).json()["items"]
    assert {item["prefix"] for item in working} == {new["prefix"], boss.prefix}

    for _ in range(2):
        revoked = await boss.post(f"/v1/keys/{new['prefix']}/revoke")
        assert (revoked.status_code, revoked.json()["revoked_at"] is not None) == (200, True)
        assert await status(connect, new["key"]) == 401

    events = [row for row in await query(EVENTS) if row.entity_id != boss.prefix]
    assert [(row.event_type, row.entity_id) for row in events] == [
        ("key_created", told["prefix"]),
        ("key_rotated", told["prefix"]),
        ("key_created", new["prefix"]),
        ("key_revoked", new["prefix"]),
    ]
    for row in events:
        assert (row.origin, row.severity, row.agent_id) == ("collector", "info", None)
        assert row.details.items() >= {"by": f"key:{boss.prefix} boss", "name": "agents"}.items()
    written = json.dumps([row.details for row in events])
    for secret in (key, new["key"]):
        assert secret not in written
        assert secret[12:] not in written
        assert hashlib.sha256(secret.encode()).hexdigest() not in written
    await boss.aclose()


async def test_the_audit_log_tells_of_it_and_agents_cannot(client, admin):
    boss = await admin()
    made = (await boss.post("/v1/keys", json={"name": "k", "scopes": ["read"]})).json()
    found = (await client.get("/v1/audit-events", params={"limit": 100})).json()["items"]
    assert {"key_created"} == {item["event_type"] for item in found if item["entity_id"] == made["prefix"]}
    for event_type in ("key_created", "key_revoked", "key_rotated"):
        answer = await send(client, audit(event_type=event_type))
        assert (answer["accepted"], rejection(answer)) == (0, "invalid_field")
    await boss.aclose()


async def test_a_change_that_fails_leaves_no_event_and_the_reverse(admin, query, settings, deadlines, engine):
    boss = await admin()
    count = "SELECT (SELECT count(*) FROM tollwatch.api_keys), (SELECT count(*) FROM tollwatch.audit_events)"
    before = await query(count)

    class Fails(KeyChanges):
        async def _tell(self, *arguments):
            await super()._tell(*arguments)
            raise NotFound("after the event was written")

    changes = Fails(engine, "test")
    for change in (changes.revoke(None, boss.prefix), changes.rotate(None, boss.prefix)):
        with pytest.raises(NotFound, match="after"):
            await change
    assert await query(count) == before
    assert (await boss.get("/v1/keys")).status_code == 200
    await boss.aclose()


async def test_a_key_of_one_project_knows_nothing_of_another(admin, connect):
    ours, theirs = await admin("ours"), await admin("theirs")
    made = (await theirs.post("/v1/keys", json={"name": "k", "scopes": ["read"]})).json()
    listed = (await ours.get("/v1/keys")).json()["items"]
    assert [item["prefix"] for item in listed] == [ours.prefix]
    for method, path in (("GET", ""), ("POST", "/revoke"), ("POST", "/rotate")):
        foreign = await ours.request(method, f"/v1/keys/{made['prefix']}{path}")
        nothing = await ours.request(method, f"/v1/keys/tw_aaaaaaaa{path}")
        assert foreign.status_code == nothing.status_code == 404
        assert foreign.json()["detail"].replace(made["prefix"], "") == nothing.json()["detail"].replace(
            "tw_aaaaaaaa", ""
        )
    assert await status(connect, made["key"]) == 200
    await ours.aclose()
    await theirs.aclose()


KEY_ROUTES = [
    ("GET", "/v1/keys"),
    ("GET", "/v1/keys/tw_aaaaaaaa"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/keys/tw_aaaaaaaa/revoke"),
    ("POST", "/v1/keys/tw_aaaaaaaa/rotate"),
]


async def test_only_the_scope_admin_will_do(connect, make_key, anonymous):
    key = await make_key("ingest", "ingest:facilitator", "read", "metrics")
    good = {"name": "k", "scopes": ["read"]}
    async with connect(Authorization=f"Bearer {key}") as own:
        for method, path in KEY_ROUTES:
            body = good if path == "/v1/keys" and method == "POST" else None
            response = await own.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (403, "missing_scope"), path
            assert (await anonymous.request(method, path, json=body)).status_code == 401


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": "a\0"}, "name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "future"),
        ({"expires_at": "tomorrow"}, "RFC 3339"),
        ({"events_per_s": 0}, "events_per_s"),
        ({"events_per_s": 20_001}, "events_per_s"),
        ({"bytes_per_s": 2**40}, "bytes_per_s"),
        ({"project": "other"}, "project"),
        ({"key": "tw_mine"}, "key"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(admin, wrong, says):
    boss = await admin()
    response = await boss.post("/v1/keys", json={"name": "k", "scopes": ["read"]} | wrong)
    assert response.status_code == 422
    assert says in response.json()["detail"]
    await boss.aclose()


async def test_an_end_stays_an_end(admin, clock):
    """An admin key that expires makes none that outlives it, nor by rotation."""
    boss = await admin(expires_at=clock.now + timedelta(hours=2))
    for more, code in (({}, 403), ({"expires_at": in_text(clock.now + timedelta(hours=3))}, 403), ({"expires_at": in_text(clock.now + timedelta(hours=1))}, 201)):  # fmt: skip
        assert (await boss.post("/v1/keys", json={"name": "k", "scopes": ["admin"], **more})).status_code == code
    assert (await boss.post("/v1/keys", json={"name": "k", "scopes": ["read"]})).status_code == 201
    clock.advance(3600)
    response = await boss.post(f"/v1/keys/{boss.prefix}/rotate")
    assert (response.status_code, response.json()["code"]) == (403, "outlives_caller")
    assert (await boss.get(f"/v1/keys/{boss.prefix}")).json()["replaced_by"] is None
    await boss.aclose()


async def test_two_rotations_at_once_make_one_successor(admin):
    boss = await admin()
    made = (await boss.post("/v1/keys", json={"name": "k", "scopes": ["read"]})).json()
    answers = await asyncio.gather(*(boss.post(f"/v1/keys/{made['prefix']}/rotate") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    await boss.aclose()


async def test_a_project_has_so_many_keys_and_dead_ones_make_room(admin, query, clock):
    boss = await admin()
    await query(
        """INSERT INTO tollwatch.api_keys (project_id, name, prefix, hash, scopes, created_by, revoked_at)
        SELECT project_id, 'k', 'tw_' || lpad(n::text, 8, '0'), sha256(n::text::bytea), '{read}', 'test', :at
        FROM tollwatch.api_keys, generate_series(2, :most) n""",
        at=clock.now - timedelta(days=89),
        most=MAX_PROJECT_KEYS,
    )
    asked = {"name": "k", "scopes": ["read"]}
    response = await boss.post("/v1/keys", json=asked)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_value")
    await query("UPDATE tollwatch.api_keys SET revoked_at = :at WHERE name = 'k'", at=clock.now - timedelta(days=91))
    assert (await boss.post("/v1/keys", json=asked)).status_code == 201
    assert len((await boss.get("/v1/keys")).json()["items"]) == 2
    await boss.aclose()


async def test_a_revoked_key_stops_in_another_process_within_five_seconds(admin, settings, deadlines, clock):
    boss = await admin()
    made = (await boss.post("/v1/keys", json={"name": "k", "scopes": ["read"]})).json()
    other = create_app(settings, deadlines, clock=clock)
    headers = {"Authorization": f"Bearer {made['key']}"}
    transport = httpx.ASGITransport(app=other)
    async with (
        other.router.lifespan_context(other),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as there,
    ):
        assert (await there.get("/v1/payments")).status_code == 200
        await boss.post(f"/v1/keys/{made['prefix']}/revoke")
        clock.advance(4.9)
        assert (await there.get("/v1/payments")).status_code == 401
    await boss.aclose()


async def test_openapi_tells_of_keys_and_limits(anonymous):
    document = (await anonymous.get("/openapi.json")).json()
    for method, path in KEY_ROUTES:
        route = document["paths"][path.replace("tw_aaaaaaaa", "{prefix}")][method.lower()]
        assert {"401", "403", "429", "503"} <= set(route["responses"]), path
        assert route["security"]
        assert route["description"]
    ingest = document["paths"]["/v1/events"]["post"]["responses"]
    assert {"429", "408"} <= set(ingest)
    assert "Retry-After" in ingest["429"]["headers"]


# --- the command line


@pytest.fixture
def tollwatch(monkeypatch, capsys, database_url):
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", database_url)

    def run(*arguments, code=0):
        assert main(["keys", *arguments]) == code, capsys.readouterr().err
        return capsys.readouterr()

    return run


def test_the_life_of_a_key_by_command(tollwatch, database_url, deadlines):
    made = ("agents", "--project", "acme", "--scopes", "ingest, read", "--expires", "90d", "--events-per-s", "50000", "--bytes-per-s", "64M")  # fmt: skip
    key = tollwatch("create", *made).out.strip()
    assert len(key) == 55
    other = tollwatch("create", "prom", "--project", "beta", "--scopes", "metrics").out.strip()
    listed = tollwatch("list").out
    assert len(listed.splitlines()) == 3
    assert key not in listed
    (line,) = [json.loads(line) for line in tollwatch("list", "--project", "acme", "--json").out.splitlines()]
    assert line.items() >= {"prefix": key[:11], "project": "acme", "events_per_s": 50_000, "bytes_per_s": 64 * 1024**2, "created_by": actor(), "last_used_at": None}.items()  # fmt: skip
    rotated = tollwatch("rotate", key[:11], "--grace", "2h")
    new = rotated.out.strip()
    assert len(new) == 55
    assert "works until" in rotated.err
    assert new not in rotated.err
    assert "is revoked" in tollwatch("revoke", new[:11]).out
    states = {line.split()[0]: line for line in tollwatch("list").out.splitlines()[1:]}
    assert f"replaced by {new[:11]}" in states[key[:11]]
    assert "revoked 20" in states[new[:11]]
    assert "works" in states[other[:11]]
    assert "already" in tollwatch("rotate", key[:11], code=1).err
    assert "no key 'tw_zzzzzzzz'" in tollwatch("revoke", "tw_zzzzzzzz", code=1).err
    assert "no project 'gamma'" in tollwatch("list", "--project", "gamma", code=1).err

    with psycopg.connect(database_url) as connection:
        rows = connection.execute(EVENTS).fetchall()
    assert sorted((row[0], row[1]) for row in rows) == sorted(
        [
            ("key_created", key[:11]),
            ("key_created", other[:11]),
            ("key_rotated", key[:11]),
            ("key_created", new[:11]),
            ("key_revoked", new[:11]),
        ]
    )
    assert {row[2]["by"] for row in rows} == {actor()}
    assert not any(secret[12:] in json.dumps(row[2]) for row in rows for secret in (key, new, other))


def test_a_key_typed_in_whole_is_not_told_back(tollwatch):
    key = tollwatch("create", "k", "--project", "acme", "--scopes", "read").out.strip()
    assert key[12:] not in tollwatch("revoke", key, code=1).err


@pytest.mark.parametrize("wrong", [("--expires", "soon"), ("--bytes-per-s", "much"), ("--events-per-s", "x")])
def test_wrong_arguments_are_wrong_usage(capsys, wrong):
    with pytest.raises(SystemExit) as ended:
        main(["keys", "create", "k", "--project", "p", "--scopes", "read", *wrong])
    assert ended.value.code == 2
    assert wrong[1] in capsys.readouterr().err
