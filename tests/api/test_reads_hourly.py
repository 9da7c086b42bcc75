"""Hourly reads: figures in every grouping, exactness, ETags, long ranges."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from itertools import combinations

import pytest_asyncio
from sqlalchemy import text

from store import rollups
from store.tables import OUTCOMES, PAYMENT_STATUSES
from tests.api.test_reads_tools import close_site, make_site
from tests.store.world import moment, payment, request, rows


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    yield made
    await close_site(made)


def shown(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def subsets(names):
    return [group for size in range(len(names) + 1) for group in combinations(names, size)]


async def every_item(site, path, **parameters):
    """All items of a list, in pages of a random size."""
    found, cursor = [], {}
    while True:
        body = (await site.get(path, limit=random.Random(7).randint(5, 400), **parameters, **cursor)).json()
        found += body["items"]
        if body["next"] is None:
            return found
        cursor = {"cursor": body["next"]}


def summed(raw, dimensions, sums):
    """{(bucket, *dimensions): [sum, …]} of raw rows (dicts), as a person would add them up."""
    groups = defaultdict(lambda: [0] * len(sums))
    for row in raw:
        key = (row["ts"].replace(minute=0, second=0, microsecond=0), *(row[name] for name in dimensions))
        for place, of in enumerate(sums.values()):
            groups[key][place] += of(row)
    return groups


def told(items, dimensions, sums):
    groups = {}
    for item in items:
        key = (datetime.fromisoformat(item["bucket"]), *(item[name] for name in dimensions))
        assert key not in groups
        groups[key] = [int(item[name]) for name in sums]
    return groups


async def mixed_payments(site, rng):
    payment_ids = [payment(site.world).payment_id for _ in range(120)]
    made = [
        payment(
            site.world,
            at=moment(rng.randrange(70 * 3600)),
            payment_id=rng.choice(payment_ids),
            agent=rng.randrange(2),
            asset_id=rng.choice(list(site.world.assets.values())),
            status=rng.choice(PAYMENT_STATUSES),
            origin=rng.choice(("agent", "chain")),
            service=rng.choice(("http://a", "http://b")),
            amount=rng.randrange(2**62),
            fee_lamports=rng.choice((None, 5000)),
            retry_count=rng.randrange(3),
        )
        for _ in range(400)
    ]
    await site.write(payments=made)


async def test_payments_per_hour_are_the_sums_of_the_raw_rows_in_every_grouping(site):
    await mixed_payments(site, random.Random(1))
    await site.refresh()
    await mixed_payments(site, random.Random(2))
    await site.refresh()
    columns = ("ts", "agent", "asset", "service", "status", "origin", "amount", "fee", "retries", "repeat")
    raw = [
        dict(zip(columns, row, strict=True))
        for row in await rows(
            site.engine,
            "SELECT p.ts, g.name, s.symbol, p.service, p.status, p.origin, p.amount, coalesce(p.fee_lamports, 0),"
            " p.retry_count, p.is_duplicate FROM tollwatch.payments p JOIN tollwatch.agents g ON g.id = p.agent_id"
            " JOIN tollwatch.assets s ON s.id = p.asset_id",
        )
    ]
    assert any(row["repeat"] for row in raw)
    sums = {
        "payments": lambda row: int(not row["repeat"]),
        "duplicates": lambda row: int(row["repeat"]),
        "amount": lambda row: 0 if row["repeat"] else row["amount"],
        "retry_amount": lambda row: 0 if row["repeat"] or not row["retries"] else row["amount"],
        "fee_lamports": lambda row: 0 if row["repeat"] else row["fee"],
        "retries": lambda row: 0 if row["repeat"] else row["retries"],
    }
    span = {"from_": shown(moment(72 * 3600))}
    for group in subsets(("agent", "service", "status", "origin")):
        items = await every_item(site, "/v1/payments/hourly", group_by=",".join(group), **span)
        assert told(items, ("asset", *group), sums) == summed(raw, ("asset", *group), sums), group
        buckets = [item["bucket"] for item in items]
        assert buckets == sorted(buckets, reverse=True)
        assert set(items[0]) == {"bucket", "asset", "network", *group, *sums}
    chosen = [row for row in raw if (row["agent"], row["status"], row["asset"]) == ("agent-1", "settled", "USDC")]
    items = await every_item(
        site, "/v1/payments/hourly", agent="agent-1", status="settled", asset="USDC", group_by="asset", **span
    )
    assert told(items, ("asset",), sums) == summed(chosen, ("asset",), sums)


async def test_attempts_per_hour_are_the_sums_of_the_raw_rows_in_every_grouping(site):
    rng = random.Random(3)
    made = [
        request(
            site.world,
            at=moment(rng.randrange(70 * 3600)),
            agent=rng.randrange(2),
            attempt=rng.randint(1, 4),
            outcome=rng.choice(OUTCOMES),
            service=rng.choice(("http://a", "http://b")),
            latency_ms=rng.choice((None, 10, 500)),
            response_bytes=rng.choice((None, 2**40)),
            paid=rng.random() < 0.5,
        )
        for _ in range(600)
    ]
    await site.write(api_requests=made)
    await site.refresh()
    names = {site.world.agent_ids[0]: "agent-0", site.world.agent_ids[1]: "agent-1"}
    raw = [
        {field: getattr(fact, field) for field in fact.__struct_fields__} | {"agent": names[fact.agent_id]}
        for fact in made
    ]
    sums = {
        "requests": lambda row: 1,
        "retries": lambda row: int(row["attempt"] > 1),
        "retry_successes": lambda row: int(row["attempt"] > 1 and row["outcome"] == "ok"),
        "paid": lambda row: int(row["paid"]),
        "latency_ms_sum": lambda row: row["latency_ms"] or 0,
        "backoff_ms_sum": lambda row: row["backoff_ms"],
        "response_bytes_sum": lambda row: row["response_bytes"] or 0,
    }
    for group in subsets(("agent", "service", "outcome")):
        items = await every_item(site, "/v1/requests/hourly", group_by=",".join(group), from_=shown(moment(72 * 3600)))
        assert told(items, group, sums) == summed(raw, group, sums), group
    latencies = [row["latency_ms"] for row in raw if row["latency_ms"] is not None]
    assert min(item["latency_ms_min"] for item in items if item["latency_ms_min"]) == min(latencies)
    assert max(item["latency_ms_max"] or 0 for item in items) == max(latencies)


async def test_the_grouping_is_by_asset_even_where_nobody_asks(site):
    at = moment(600)
    for asset in ("USDC", "CASH"):
        await site.write(payments=[payment(site.world, at=at, amount=7, asset_id=site.world.assets[asset])])
    items = await site.items("/v1/payments/hourly", group_by="service")
    assert sorted((item["asset"], item["amount"]) for item in items) == [("CASH", "7"), ("USDC", "7")]
    answer = await site.get("/v1/payments/hourly", group_by="agent,colour")
    assert answer.status_code == 422
    assert "agent, asset, service, status, origin" in answer.json()["detail"]
    assert (await site.get("/v1/requests/hourly", group_by="asset")).status_code == 422


async def test_exact_until_stops_at_what_is_pending(site):
    late = moment(50 * 3600)
    end = moment(40 * 3600)
    await site.refresh()
    asked = {"from_": shown(moment(60 * 3600)), "to": shown(end), "group_by": "status"}
    before = (await site.get("/v1/payments/hourly", **asked)).json()
    assert before == {"items": [], "next": None, "exact_until": shown(end)}
    await site.write(payments=[payment(site.world, at=late)])
    body = (await site.get("/v1/payments/hourly", **asked)).json()
    exact = datetime.fromisoformat(body["exact_until"])
    if not body["items"]:
        assert exact <= late
    await site.refresh()
    body = (await site.get("/v1/payments/hourly", **asked)).json()
    assert [item["payments"] for item in body["items"]] == [1]
    assert body["exact_until"] == shown(end)


async def test_an_exact_range_has_a_tag_that_stays_until_its_content_changes(site):
    await site.write(payments=[payment(site.world, at=moment(30 * 3600))])
    await site.refresh()
    asked = {"from": shown(moment(40 * 3600)), "to": shown(moment(20 * 3600)), "group_by": "status"}
    async with site.client() as client:
        first = await client.get("/v1/payments/hourly", params=asked)
        tag = first.headers["etag"]
        assert tag.startswith('"')
        again = await client.get("/v1/payments/hourly", params=asked, headers={"If-None-Match": f'"x", W/{tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        other = await client.get("/v1/payments/hourly", params=asked | {"group_by": "origin"})
        assert other.headers["etag"] != tag
        await site.write(payments=[payment(site.world, at=moment(30 * 3600))])
        await site.refresh()
        changed = await client.get("/v1/payments/hourly", params=asked, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.json()["items"] != first.json()["items"]
        live = await client.get("/v1/payments/hourly", params={"group_by": "status"})
        assert "etag" not in live.headers


async def test_a_long_range_is_read_back_in_parts_without_losing_or_repeating_an_hour(site):
    hours = [moment(3600 * hours) for hours in (1, 30, 200, 201, 800, 3000, 9000)]
    await site.write(payments=[payment(site.world, at=at) for at in hours])
    await rollups.refresh_range(
        site.engine, site.state.edition, site.state.settings, moment(9600 * 3600), datetime.now(UTC)
    )
    start = shown(moment(9599 * 3600))
    for limit in (1, 2, 100):
        found, cursor = [], {}
        while True:
            body = (await site.get("/v1/payments/hourly", from_=start, limit=limit, **cursor)).json()
            found += [item["bucket"] for item in body["items"]]
            if body["next"] is None:
                break
            assert len(body["items"]) == limit
            cursor = {"cursor": body["next"]}
        assert found == [shown(at.replace(minute=0, second=0, microsecond=0)) for at in hours]


WIDEST = {
    "/v1/payments/hourly": 400,
    "/v1/requests/hourly": 400,
    "/v1/balances/history?bucket=1h": 400,
    "/v1/spend?bucket=1d": 1830,
    "/v1/retry-health": 400,
    "/v1/retry-health?bucket=total": 31,
    "/v1/audit-trail": 31,
    "/v1/queue": 31,
    "/v1/breakers": 31,
}


async def test_a_range_too_wide_is_refused_without_asking_the_database(site):
    async with site.engine.begin() as connection:  # a statement would wait, and fail at its deadline
        await connection.execute(text("LOCK TABLE tollwatch.assets, tollwatch.agents IN ACCESS EXCLUSIVE MODE"))
        for path, days in WIDEST.items():
            answer = await site.get(path + ("&" if "?" in path else "?") + "from=2020-01-01T00:00:00Z")
            assert answer.status_code == 422
            assert f"{days} days" in answer.json()["detail"], path
