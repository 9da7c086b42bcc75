"""The direct path, the spool and the client agree on every field of every event, and with what was said."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from tollwatch import Balance, Payment, Recorder, base58

from store.deadlines import Deadlines
from store.identity import time_of
from store.redact import redact_json, redact_text
from store.settings import Settings
from store.tables import SCOPES
from tests.client.test_client_events import DOCUMENTS, IDS, KINDS, events_of, expected
from tests.client.test_client_faults import database_away
from tests.e2e.stack import Process, status_of, until
from tests.keys import create_key
from tests.ports import free_ports

EXAMPLES = int(os.environ.get("TOLLWATCH_TEST_EXAMPLES", "25"))
"""Events of each type."""
AGENT = "quant-1"
PATHS = ("direct", "spooled", "client")
"""Projects, each of which gets every event by another path."""
BATCH = 40
RELATIONS = {
    "payment": "payments", "api_request": "api_requests", "audit": "audit_events", "queue": "queue_events",
    "balance": "balance_samples",
}  # fmt: skip
NAMES = """
SELECT x.*, g.name AS agent, w.address AS wallet, w.network AS wallet_network, s.symbol AS asset, s.network AS asset_network
FROM tollwatch.{relation} x
JOIN tollwatch.projects p ON p.id = x.project_id AND p.name = %s
LEFT JOIN tollwatch.agents g ON g.id = x.agent_id
LEFT JOIN tollwatch.wallets w ON w.id = {wallet}
LEFT JOIN tollwatch.assets s ON s.id = {asset}
WHERE x.origin = 'agent'
"""
OWN_TO_A_PROJECT = {"project_id", "agent_id", "wallet_id", "asset_id", "recorded_at", "threshold", "change"}
MEMBERS = {"session": "session_id"}
"""Members that have another name in the database."""
DEFAULTS = {"retry_count": 0, "backoff_ms": 0, "attempt": 1, "max_retries": 3, "paid": False, "severity": "info"}


def some_events():
    """Whatever the builders can make, each payment and settlement a different one."""
    made = []

    @hypothesis_settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*map(events_of, KINDS)))
    def collect(events):
        made.extend(events)

    collect()
    for number, event in enumerate(made):
        changes = {"agent": AGENT, "id": IDS.new()}
        if isinstance(event, Payment):
            changes["payment_id"] = IDS.new()
            if event.signature is not None:
                changes["signature"] = base58.encode(os.urandom(64))
        if getattr(event, "attempt", None) is not None:
            changes["max_retries"] = 2**15 - 2
        if isinstance(event, Balance):
            changes["wallet"] = base58.encode(os.urandom(32))
        if getattr(event, "asset", None) == "CASH":
            changes["network"] = None  # on mainnet, the agent's
        made[number] = dataclasses.replace(event, **changes)
    return made


@pytest.fixture(scope="module")
def served(server, tmp_path_factory):
    """(API's URL, keys by project, the server, its database's name)."""
    name, folder, port = server.clone(), tmp_path_factory.mktemp("round-trip"), free_ports(1)
    settings = Settings(database_url=server.url(name))
    keys = {
        project: asyncio.run(create_key(settings, project=project, name=project, scopes=SCOPES, deadlines=Deadlines()))
        for project in PATHS
    }
    environ = {"DATABASE_URL": settings.database_url, "PORT": str(port), "HOME": str(folder)}
    process = Process("api", ["cli", "api"], folder, **{f"TOLLWATCH_{key}": value for key, value in environ.items()})
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: status_of(f"{url}/readyz") == 200, 60, "the API is ready")
        yield url, keys, name
        assert process.stop() == 0, process.text()[-2000:]
    finally:
        process.popen.kill()
        server.drop(name)


def post(http, key, bodies):
    for start in range(0, len(bodies), BATCH):
        body = b"[" + b",".join(bodies[start : start + BATCH]) + b"]"
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        response = http.post("/v1/events", content=body, headers=headers)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["rejected"] == []
        assert answer["accepted"] == len(bodies[start : start + BATCH])
        yield answer["spooled"]


def exact(text):
    return json.loads(text, parse_float=Decimal)


def rows_of(url, project):
    """{(relation, key): row} of a project, with names in place of ids."""
    found = {}
    with psycopg.connect(url, row_factory=dict_row) as connection:
        set_json_loads(exact, connection)
        for relation in RELATIONS.values():
            columns = {"wallet": "x.wallet_id", "asset": "x.asset_id"}
            columns |= {"wallet": "NULL"} if relation in ("audit_events", "queue_events") else {}
            columns |= {"asset": "NULL"} if relation in ("audit_events", "api_requests") else {}
            for row in connection.execute(NAMES.format(relation=relation, **columns), [project]):
                key = row.get("id") or (row["wallet"], row["asset"], row["ts"])
                found[relation, key] = {name: value for name, value in row.items() if name not in OWN_TO_A_PROJECT}
    return found


def test_every_path_stores_what_was_said(server, served):
    url, keys, name = served
    made = some_events()
    items = [event.encode(event.id, AGENT) for event in made]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        for key in keys.values():
            put = http.put(f"/v1/agents/{AGENT}", json={}, headers={"Authorization": f"Bearer {key}"})
            assert put.status_code == 201
        assert set(post(http, keys["direct"], [item.body for item in items])) == {False}

        known = symbols(made)
        assert set(post(http, keys["spooled"], known)) == {False}  # what they name is known from now on
        with database_away(server, name):
            until(lambda: http.get("/readyz").status_code == 503, 30, "the database is away")
            assert set(post(http, keys["spooled"], [item.body for item in items])) == {True}
        until(lambda: http.get("/readyz").status_code == 200, 60, "the database is back")

    with Recorder(url, keys["client"], AGENT) as recorder:
        for event in made:
            recorder.record(event)
        assert recorder.flush(60)
        assert recorder.stats().accepted == len(made), recorder.stats()

    database_url = server.url(name)
    direct = rows_of(database_url, "direct")
    until(lambda: len(rows_of(database_url, "spooled")) == len(direct) + len(known), 60, "the spool is empty")
    # What the client told went to the spool too, if the API had not emptied it by then.
    until(lambda: len(rows_of(database_url, "client")) >= len(direct), 60, "the client's events are stored")
    spooled = rows_of(database_url, "spooled")
    assert {key: spooled[key] for key in direct} == direct
    assert rows_of(database_url, "client") == direct
    assert len(direct) == len(made)
    for event, item in zip(made, items, strict=True):
        says(event, exact(item.body), direct)


def symbols(made):
    """Events that name every symbol on every network, so that nothing is left to ask while the database is away."""
    pairs = {(event.asset, event.network) for event in made if getattr(event, "asset", None) in ("USDC", "CASH")}
    fixed = {"amount": 1, "status": "pending", "service": "warm"}
    warm = [
        Payment(**fixed, payment_id=IDS.new(), asset=asset, network=network)
        for asset, network in sorted(pairs, key=str)
    ]
    return [event.encode(IDS.new(), AGENT).body for event in warm]


def says(event, told, rows):
    """One event against its row, member by member, by other rules than the code under test has."""
    relation = RELATIONS[event.TYPE]
    moment = time_of(UUID(event.id))
    key = (base58.decode(event.wallet), told["asset"], moment) if relation == "balance_samples" else UUID(event.id)
    row = rows[relation, key]
    assert row["ts"] == moment
    for field in dataclasses.fields(event):
        name, value = field.name, getattr(event, field.name)
        column = MEMBERS.get(name, name)
        if name in ("id", "network") or value is None:
            if column in DEFAULTS:
                assert row[column] == DEFAULTS[column], name
            continue
        assert row[column] == stored(name, value, told), (event, name)


def stored(name, value, told):
    if name in DOCUMENTS:
        return redact_json(told[name])  # a member may well be called "cookie"
    if name in ("wallet", "pay_to", "signature"):
        return base58.decode(value)
    if name in ("request_digest", "response_digest"):
        return bytes.fromhex(value)
    if name in ("payment_id", "request_id", "session"):
        return UUID(str(value))
    meant = expected(name, value)
    if isinstance(meant, datetime):
        return meant.astimezone(UTC)
    return redact_text(meant) if isinstance(meant, str) and name != "agent" else meant
