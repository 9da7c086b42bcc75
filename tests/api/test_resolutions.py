"""Resolutions: who dealt with an audit event, exactly once, and a person's word above the machine's."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

import pytest

from tests.api.world import audit, new_id, payment, send

BODY = {"resolved_by": "ada@example.com", "note": "topped up by hand"}
ROWS = "SELECT * FROM tollwatch.audit_resolutions"


def path(event_id):
    return f"/v1/audit-events/{event_id}/resolution"


@pytest.fixture
async def event_id(client):
    event = audit(event_type="low_balance", severity="warning")
    assert (await send(client, event))["accepted"] == 1
    return event["id"]


async def test_a_resolution_is_recorded_once_and_replaced_by_a_later_one(client, query, clock, event_id):
    made = await client.post(path(event_id), json=BODY)
    assert made.status_code == 201
    told = made.json()
    assert told.items() >= {"event_id": event_id, "automatic": False, **BODY}.items()
    assert told["resolved_at"] == clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    (first,) = await query(ROWS)
    assert (str(first.event_id), first.resolved_by, first.note) == (event_id, BODY["resolved_by"], BODY["note"])
    assert [first.event_ts] == [row.ts for row in await query("SELECT ts FROM tollwatch.audit_events")]

    clock.advance(60)
    same = await client.post(path(event_id), json=BODY)
    assert (same.status_code, same.json()) == (200, told)
    assert await query(ROWS) == [first]

    later = await client.post(path(event_id), json={"resolved_by": "grace"})
    assert (later.status_code, later.json()["resolved_by"], later.json()["note"]) == (200, "grace", None)
    assert later.json()["resolved_at"] > told["resolved_at"]
    assert [row.resolved_by for row in await query(ROWS)] == ["grace"]


async def test_a_person_overrules_the_machine_which_does_not_overrule_a_person(client, query):
    opened = audit(id=new_id(120), event_type="breaker_opened", component="market")
    closed = audit(id=new_id(60), event_type="breaker_closed", component="market")
    await send(client, opened, closed)
    assert [row.automatic for row in await query(ROWS)] == [True]
    response = await client.post(path(opened["id"]), json=BODY)
    assert (response.status_code, response.json()["automatic"]) == (200, False)
    await send(client, audit(id=new_id(90), event_type="breaker_closed", component="market"))
    assert [(row.automatic, row.resolved_by) for row in await query(ROWS)] == [(False, BODY["resolved_by"])]


async def test_an_id_without_a_time_needs_ts(client, query):
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    event = audit(id=str(uuid.uuid4()), ts=at)
    await send(client, event)
    missing = await client.post(path(event["id"]), json=BODY)
    assert (missing.status_code, missing.json()["code"]) == (422, "missing_ts")
    wrong = await client.post(path(event["id"]), json=BODY | {"ts": "2026-01-01T00:00:00Z"})
    assert wrong.status_code == 404
    assert (await client.post(path(event["id"]), json=BODY | {"ts": at})).status_code == 201
    assert len(await query(ROWS)) == 1


async def test_a_ts_that_is_not_the_ids_is_refused(client, event_id):
    response = await client.post(path(event_id), json=BODY | {"ts": "2026-01-01T00:00:00Z"})
    assert (response.status_code, response.json()["code"]) == (422, "id_time_mismatch")
    ts = (await client.post(path(event_id), json=BODY)).json()["event_ts"]
    assert (await client.post(path(event_id), json=BODY | {"ts": ts})).status_code == 200


async def test_only_an_audit_event_of_the_project_can_be_resolved(client, connect, make_key, query, event_id):
    paid = payment()
    await send(client, paid)
    for unknown in (new_id(), paid["id"], "ffffffff-ffff-7fff-bfff-ffffffffffff"):
        response = await client.post(path(unknown), json=BODY)
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), unknown
    async with connect(Authorization=f"Bearer {await make_key(project='elsewhere')}") as own:
        assert (await own.post(path(event_id), json=BODY)).status_code == 404
    assert await query(ROWS) == []


WRONG = [
    {},
    {"resolved_by": None},
    {"resolved_by": ""},
    {"resolved_by": "a" * 101},
    {"resolved_by": "a\0"},
    {"resolved_by": 17},
    BODY | {"note": "n" * 1001},
    BODY | {"note": "\0"},
    BODY | {"note": ["a"]},
    BODY | {"ts": "yesterday"},
    BODY | {"ts": 17},
    BODY | {"automatic": True},
    BODY | {"resolved_at": "2026-01-01T00:00:00Z"},
]


async def test_a_wrong_body_is_a_problem_and_changes_nothing(client, query, event_id):
    for wrong in WRONG:
        response = await client.post(path(event_id), json=wrong)
        assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json"), wrong
    for content in (b"", b"{", b"null", b'{"resolved_by": "\\ud800"}', b" " * 70_000):
        response = await client.post(path(event_id), content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 413, 422), content[:10]
        assert response.headers["content-type"] == "application/problem+json"
    assert (await client.post(path("17"), json=BODY)).status_code == 422
    assert await query(ROWS) == []


async def test_two_who_resolve_at_once_leave_one_resolution(client, query, event_id):
    bodies = [BODY | {"resolved_by": f"person {n % 2}"} for n in range(8)]
    statuses = [r.status_code for r in await asyncio.gather(*(client.post(path(event_id), json=b) for b in bodies))]
    assert sorted(statuses) == [200] * 7 + [201]
    assert len(await query(ROWS)) == 1


async def test_a_secret_in_a_note_is_redacted(client, query, event_id):
    note = "used Bearer hunter2hunter2hunter2"
    response = await client.post(path(event_id), json=BODY | {"note": note})
    ((stored,),) = await query("SELECT note FROM tollwatch.audit_resolutions")
    assert "hunter2" not in stored + response.text


async def test_a_resolution_needs_its_scope(connect, anonymous, make_key, event_id):
    assert (await anonymous.post(path(event_id), json=BODY)).status_code == 401
    for scope, status in (("read", 403), ("metrics", 403), ("admin", 201), ("ingest", 200)):
        async with connect(Authorization=f"Bearer {await make_key(scope)}") as own:
            assert (await own.post(path(event_id), json=BODY)).status_code == status, scope
