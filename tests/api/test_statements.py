"""No request sends more statements because there is more to tell; and the detector that watches all the tests does detect."""

from __future__ import annotations

import pytest
from fastapi import Depends
from sqlalchemy import text

from api.dependencies import state
from tests.api.statements import MOST_REPEATS, check
from tests.api.world import AGENT, api_request, audit, balance, new_id, payment, queue, send

READS = (
    "/v1/agents",
    f"/v1/agents/{AGENT}",
    "/v1/balances",
    "/v1/balances/history",
    "/v1/payments",
    "/v1/payments/hourly?group_by=agent,asset,status,service,origin",
    "/v1/requests",
    "/v1/requests/hourly?group_by=agent,service",
    "/v1/audit-events",
    "/v1/audit-trail",
    "/v1/breakers",
    "/v1/queue",
    "/v1/sessions",
    "/v1/runway",
    "/v1/spend",
    "/v1/retry-health",
    "/v1/schemas",
    "/v1/keys",
    "/metrics",
    "/readyz",
)


def events(count):
    """`count` events of every type, each of another payment, request and minute."""
    made = []
    for number in range(count):
        age = 100.0 + 60 * number
        made += [
            payment(id=new_id(age), service=f"https://s{number}.example"),
            api_request(id=new_id(age), service=f"https://s{number}.example"),
            audit(id=new_id(age), event_type="breaker_opened", component=f"c{number}"),
            queue(id=new_id(age)),
            balance(id=new_id(age), slot=1000 - number, amount=str(number)),
        ]
    return made


async def sent_by(client, requests, path):
    """How many statements one GET sends, once caches are warm."""
    for _ in range(2):
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.text)
    return requests[-1].statements.total()


async def test_every_list_of_the_api_is_read_here(app):
    paths = {path for path, methods in app.openapi()["paths"].items() if "get" in methods and path.startswith("/v1/")}
    known = {path.partition("?")[0].replace(f"/{AGENT}", "/{name}") for path in READS}
    assert paths - known <= {
        "/v1/stream",
        "/v1/payments/{payment_id}",
        "/v1/keys/{prefix}",
        "/v1/schemas/{event_type}",
    }


async def test_reads_send_as_many_statements_for_forty_items_as_for_two(app, client, requests):
    await send(client, *events(2))
    app.state.exporter = None
    few = {path: await sent_by(client, requests, path) for path in READS}
    for number in range(6):
        assert (await client.put(f"/v1/agents/more-{number}", json={})).status_code == 201
    await send(client, *events(40))
    many = {path: await sent_by(client, requests, path) for path in few}
    # Buckets are read back in parts: one more where the newest has rows, but no page full of them.
    more = {path: many[path] - few[path] for path in READS if many[path] != few[path]}
    assert set(more) <= {path for path in READS if "hourly" in path or path in ("/v1/spend", "/v1/retry-health")}
    assert set(more.values()) <= {1}
    assert few["/v1/payments"] > 0


async def test_ingest_sends_as_many_statements_for_two_hundred_events_as_for_ten(client, requests):
    await send(client, *events(2))
    counts = []
    for number in (2, 40):
        await send(client, *events(number))
        counts.append(requests[-1].statements.total() + requests[-1].shared.total())
    assert counts[0] == counts[1] > 0


async def test_the_detector_sees_a_request_that_loops(app, client, requests):
    async def looping(times: int, held=Depends(state)):  # noqa: B008 (FastAPI's own way)
        async with held.engine.connect() as connection:
            for number in range(times):
                await connection.execute(text("SELECT CAST(:number AS int)"), {"number": number})
        return []

    app.add_api_route("/v1/looping", looping)
    assert (await client.get("/v1/looping", params={"times": MOST_REPEATS})).status_code == 200
    check(requests)
    assert (await client.get("/v1/looping", params={"times": MOST_REPEATS + 1})).status_code == 200
    with pytest.raises(AssertionError, match=f"GET /v1/looping sends {MOST_REPEATS + 1} times: SELECT CAST"):
        check(requests)
    requests.clear()
