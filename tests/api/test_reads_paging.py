"""Lists page by page, as documented, each project its own."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest
import pytest_asyncio

from store.identity import to_milliseconds, uuid7
from tests.api.test_reads_tools import add_key, add_session, close_site, make_site
from tests.store.world import audit, make_world, moment, payment, queued, request, sample


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    yield made
    await close_site(made)


async def test_a_thousand_rows_are_paged_once_each_in_order_while_rows_arrive(site):
    rng = random.Random(402)
    base = moment(3600)
    times = [base - timedelta(milliseconds=rng.randrange(300)) for _ in range(1000)]
    facts = [payment(site.world, at=at) for at in times]
    await site.write(payments=facts)
    wanted = sorted(((fact.ts, fact.id) for fact in facts), reverse=True)
    seen, cursor, pages = [], {}, 0
    async with site.client() as client:
        while True:
            size = rng.randint(1, 97)
            answer = await client.get("/v1/payments", params={"limit": size, "agent": "agent-0"} | cursor)
            body = answer.json()
            assert len(body["items"]) <= size
            seen += [item["id"] for item in body["items"]]
            pages += 1
            if pages % 3 == 0:  # newer rows, and rows of the very millisecond at which the next page begins
                await site.write(payments=[payment(site.world, at=moment(5)) for _ in range(3)])
            if body["next"] is None:
                break
            cursor = {"cursor": body["next"]}
    assert seen == [str(id_) for _, id_ in wanted]


@pytest.mark.parametrize("limit", [1, 3])
async def test_every_list_pages_through_what_it_has(site, limit):
    world = site.world
    at = to_milliseconds(datetime.now(UTC)) - timedelta(seconds=30)
    await site.write(
        payments=[payment(world, at=at, agent=i % 2) for i in range(5)],
        api_requests=[request(world, at=at, agent=i % 2) for i in range(5)],
        audit_events=[audit(world, "breaker_opened", at=at, agent=i % 2, component=f"c{i}") for i in range(5)],
        balance_samples=[
            sample(world, i, i, at=at - timedelta(seconds=i), agent=i % 2, asset=asset)
            for i in range(4)
            for asset in ("USDC", "SOL")
        ],
        queue_events=[queued(world, at=at, agent=i % 2) for i in range(5)],
    )
    for i in range(3):
        await add_session(site, agent=i % 2)
    sizes = {
        "/v1/agents": 2,
        "/v1/balances": 4,
        "/v1/balances/history": 8,
        "/v1/balances/history?bucket=1h": None,
        "/v1/payments": 5,
        "/v1/requests": 5,
        "/v1/audit-events": None,
        "/v1/breakers": 5,
        "/v1/payments/hourly?group_by=agent,service,status,origin": None,
        "/v1/requests/hourly?group_by=agent,service,outcome": None,
        "/v1/payments/hourly?bucket=1d&group_by=agent": None,
        "/v1/requests/hourly?quantiles=true&group_by=agent,service": None,
        "/v1/balances/history?bucket=1d": None,
        "/v1/breakers?history=true": 5,
        "/v1/audit-trail": None,
        "/v1/queue": 5,
        "/v1/queue?history=true": 5,
        "/v1/sessions": 3,
        "/v1/runway": 4,
        "/v1/spend?group_by=agent": None,
        "/v1/spend?bucket=1d&group_by=agent": None,
        "/v1/retry-health": None,
        "/v1/retry-health?bucket=total": 2,
    }
    async with site.client() as client:
        documents = site.app.openapi()
        for path, size in sizes.items():
            mark = "&" if "?" in path else "?"
            whole = (await client.get(path)).json()
            assert whole["next"] is None
            assert_documented(documents, path.partition("?")[0], whole)
            assert size in (None, len(whole["items"])), path
            paged, cursor = [], ""
            while cursor is not None:
                body = (await client.get(f"{path}{mark}limit={limit}&cursor={cursor}".removesuffix("&cursor="))).json()
                paged += body["items"]
                cursor = body["next"]
            assert paged == whole["items"], path


def assert_documented(documents, path, body):
    """The answer is what the OpenAPI document says, and has no field that it does not name."""
    schema = documents["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**schema, "components": documents["components"]})
    items = [documents["components"]["schemas"][ref["$ref"].split("/")[-1]] for ref in schema.get("anyOf", [schema])]
    named = {name for page in items for name in properties(documents, page["properties"]["items"]["items"])}
    assert {name for item in body["items"] for name in item} <= named


def properties(documents, reference):
    return documents["components"]["schemas"][reference["$ref"].split("/")[-1]]["properties"]


async def test_each_key_sees_its_own_project_alone(site):
    other = await make_world(site.engine, name="other")
    await add_key(site, "other", "other", "read")
    theirs = payment(other, amount=99)
    ours = payment(site.world, amount=1)
    await site.write(
        payments=[theirs, ours],
        api_requests=[request(other), request(site.world)],
        audit_events=[audit(other, "breaker_opened", component="c"), audit(site.world, "paused")],
        balance_samples=[sample(other, 9, 9), sample(site.world, 1, 1)],
        queue_events=[queued(other), queued(site.world, reason="rpc")],
    )
    await add_session(site, world=other)
    assert [item["amount"] for item in await site.items("/v1/payments")] == ["1"]
    assert [item["amount"] for item in await site.items("/v1/payments", key="other")] == ["99"]
    assert [item["amount"] for item in await site.items("/v1/payments/hourly", key="other")] == ["99"]
    assert [item["requests"] for item in await site.items("/v1/requests/hourly")] == [1]
    assert {item["wallet"] for item in await site.items("/v1/balances")} == {"wallet-acme-0"}
    assert {item["wallet"] for item in await site.items("/v1/balances/history")} == {"wallet-acme-0"}
    assert {item["wallet"] for item in await site.items("/v1/balances/history", bucket="1h")} == {"wallet-acme-0"}
    assert len(await site.items("/v1/requests")) == 1
    assert await site.items("/v1/breakers") == []
    assert "breaker_opened" not in {item["event_type"] for item in await site.items("/v1/audit-events")}
    assert await site.items("/v1/breakers", history=True) == []
    for more in ({}, {"history": True}):
        assert [item["reason"] for item in await site.items("/v1/queue", **more)] == ["rpc"]
    assert await site.items("/v1/sessions") == []
    assert {item["wallet"] for item in await site.items("/v1/runway")} == {"wallet-acme-0"}
    assert [item["amount"] for item in await site.items("/v1/spend")] == ["1"]
    assert [item["amount"] for item in await site.items("/v1/spend", bucket="1d", key="other")] == ["99"]
    assert [item["attempts"] for item in await site.items("/v1/retry-health")] == [1]
    assert [item["attempts"] for item in await site.items("/v1/retry-health", bucket="total", group_by="")] == [1]
    assert [item["requests"] for item in await site.items("/v1/requests/hourly", quantiles=True, bucket="1d")] == [1]
    trail = [item for item in await site.items("/v1/audit-trail") if item["what"] != "low_balance"]
    assert sorted((item["kind"], item["what"]) for item in trail) == [
        ("audit", "paused"),
        ("queue", "queued"),
        ("request", "ok"),
    ]
    assert (await site.get(f"/v1/payments/{theirs.payment_id}")).status_code == 404
    assert (await site.get("/v1/balances", wallet="wallet-other-0")).status_code == 404
    # Another project's cursor is no cursor here.
    page = (await site.get("/v1/agents", limit=1)).json()["next"]
    assert (await site.get("/v1/agents", key="other", limit=1, cursor=page)).status_code == 422


async def test_reads_need_a_key_with_their_scope(site):
    await add_key(site, "ingest", "acme", "ingest")
    assert (await site.get("/v1/payments", key=None)).status_code == 401
    assert (await site.get("/v1/payments", key="ingest")).status_code == 403


async def test_hundreds_of_readers_at_once_get_their_answers(site):
    await site.write(payments=[payment(site.world, at=at, id=uuid7(at)) for at in [moment(i) for i in range(1, 200)]])
    answers = await asyncio.gather(*(site.get("/v1/payments", limit=50) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
