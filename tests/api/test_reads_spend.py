"""Spend, retry health, days and quantiles: recomputed from the raw rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
import pytest_asyncio

from store import rollups
from store.tables import OUTCOMES
from tests.api.test_reads_hourly import every_item, shown, subsets
from tests.api.test_reads_tools import close_site, make_site
from tests.store.world import moment, payment, request, rows

HOUR = timedelta(hours=1)
SERVICES = ("http://a", "http://b")


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    yield made
    await close_site(made)


def hour_of(at):
    return at.replace(minute=0, second=0, microsecond=0)


def day_of(at):
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


async def mixed(site, rng, hours=70):
    """Payments (repeats too) and attempts over some days, and some more that come late; rolled up."""
    ids = [payment(site.world).payment_id for _ in range(100)]

    def at():
        return moment(rng.randrange(hours * 3600))

    for count in (260, 40):
        await site.write(
            payments=[
                payment(
                    site.world,
                    at=at(),
                    payment_id=rng.choice(ids),
                    agent=rng.randrange(2),
                    asset_id=site.world.assets[rng.choice(("USDC", "USDC", "CASH"))],
                    status=rng.choice(("settled", "settled", "failed")),
                    service=rng.choice(SERVICES),
                    amount=rng.randrange(10**9),
                    retry_count=rng.randrange(2),
                )
                for _ in range(count)
            ],
            api_requests=[
                request(
                    site.world,
                    at=at(),
                    agent=rng.randrange(2),
                    attempt=rng.randint(1, 3),
                    outcome=rng.choice(OUTCOMES),
                    service=rng.choice(SERVICES),
                    backoff_ms=rng.randrange(1000),
                )
                for _ in range(count)
            ],
        )
        await site.refresh()


async def settled(site):
    """The payments that were settled, told once each: (ts, agent, service, asset id, symbol, amount, was a retry)."""
    return await rows(
        site.engine,
        "SELECT p.ts, g.name, p.service, p.asset_id, s.symbol, p.amount, p.retry_count > 0 FROM tollwatch.payments p "
        "JOIN tollwatch.agents g ON g.id = p.agent_id JOIN tollwatch.assets s ON s.id = p.asset_id "
        "WHERE p.status = 'settled' AND NOT p.is_duplicate",
    )


@pytest.mark.parametrize(("bucket", "start"), [("1h", hour_of), ("1d", day_of)])
async def test_spend_is_what_settled_in_every_grouping(site, bucket, start):
    await mixed(site, random.Random(21))
    raw = await settled(site)
    span = {"bucket": bucket, "from_": shown(day_of(moment(96 * 3600)))}
    for group in subsets(("agent", "service")):
        wanted = defaultdict(lambda: [0, 0, 0])
        for ts, agent, service, _, asset, amount, is_retry in raw:
            dimensions = {"agent": agent, "service": service}
            sums = wanted[start(ts), asset, *(dimensions[name] for name in group)]
            sums[0] += 1
            sums[1] += amount
            sums[2] += amount * is_retry
        found = {}
        for item in await every_item(site, "/v1/spend", group_by=",".join(group), **span):
            key = (datetime.fromisoformat(item["bucket"]), item["asset"], *(item[name] for name in group))
            found[key] = [item["payments"], int(item["amount"]), int(item["retry_amount"])]
            price = (Decimal(item["amount"]) / item["payments"]).quantize(Decimal(1), ROUND_HALF_UP)
            assert int(item["price"]) == price
            assert set(item) == {"bucket", "asset", "network", "payments", "amount", "retry_amount", "price", *group}
        assert found == wanted, group
    only = await every_item(site, "/v1/spend", agent="agent-1", asset="CASH", service="http://a", **span)
    chosen = [row for row in raw if (row[1], row[4], row[2]) == ("agent-1", "CASH", "http://a")]
    assert sum(int(item["amount"]) for item in only) == sum(row[5] for row in chosen)


async def test_days_are_the_sums_of_the_raw_rows_and_say_until_when_they_are_exact(site):
    await mixed(site, random.Random(22))
    span = {"bucket": "1d", "from_": shown(day_of(moment(96 * 3600))), "group_by": "agent"}
    told = await rows(
        site.engine,
        "SELECT date_trunc('day', ts, 'UTC'), g.name, count(*) FROM tollwatch.api_requests q "
        "JOIN tollwatch.agents g ON g.id = q.agent_id GROUP BY 1, 2",
    )
    items = await every_item(site, "/v1/requests/hourly", **span)
    assert {(datetime.fromisoformat(i["bucket"]), i["agent"]): i["requests"] for i in items} == {
        (day, agent): number for day, agent, number in told
    }
    payments = await every_item(site, "/v1/payments/hourly", status="settled", **span)
    wanted = Counter()
    for ts, agent, _, _, asset, amount, _ in await settled(site):
        wanted[day_of(ts), agent, asset] += amount
    assert {
        (datetime.fromisoformat(i["bucket"]), i["agent"], i["asset"]): int(i["amount"])
        for i in payments
        if i["payments"]
    } == wanted

    await site.refresh()
    yesterday = day_of(datetime.now(UTC)) - timedelta(days=1)
    asked = {"bucket": "1d", "from": shown(yesterday - timedelta(days=2)), "to": shown(yesterday)}
    first = await site.get("/v1/spend", **asked)
    assert first.json()["exact_until"] == shown(yesterday)
    assert "etag" in first.headers
    assert "etag" not in (await site.get("/v1/spend", bucket="1d")).headers


async def test_days_reach_back_a_month_by_default_and_further_if_asked(site):
    now = day_of(datetime.now(UTC))
    await site.write(payments=[payment(site.world, at=now - timedelta(days=days)) for days in (3, 25, 390)])
    await rollups.refresh_range(
        site.engine, site.state.edition, site.state.settings, now - timedelta(days=399), datetime.now(UTC)
    )
    asked = {"bucket": "1d", "group_by": "asset"}
    assert len(await site.items("/v1/spend", **asked)) == 2
    assert len(await every_item(site, "/v1/spend", from_=shown(now - timedelta(days=1600)), **asked)) == 3


async def raw_retry_health(site, since):
    """{(hour, agent, service): [counts, {asset: [retried, avoided]}]}, row by row."""
    groups = defaultdict(lambda: [Counter(), defaultdict(lambda: [0, 0])])
    attempts = await rows(
        site.engine,
        "SELECT ts, g.name, service, attempt, outcome, backoff_ms FROM tollwatch.api_requests q "
        "JOIN tollwatch.agents g ON g.id = q.agent_id",
    )
    for ts, agent, service, attempt, outcome, backoff in attempts:
        skipped = outcome == "skipped_open"
        groups[hour_of(ts), agent, service][0].update(
            attempts=not skipped,
            retries=attempt > 1,
            retry_successes=attempt > 1 and outcome == "ok",
            skipped=skipped,
            backoff_ms=backoff,
        )
    payments = await settled(site)
    for ts, agent, service, _, asset, amount, is_retry in payments:
        if is_retry:
            groups[hour_of(ts), agent, service][1][asset][0] += amount
    for (hour, agent, service), (counts, amounts) in groups.items():
        paid = defaultdict(list)
        for ts, *who, asset_id, asset, amount, _ in payments:
            if who == [agent, service] and hour - 24 * HOUR <= hour_of(ts) <= hour:
                paid[-asset_id, asset].append(amount)
        if paid and counts["skipped"]:
            (_, asset), prices = max(paid.items(), key=lambda item: (len(item[1]), item[0]))
            avoided = Decimal(counts["skipped"] * sum(prices)) / len(prices)
            amounts[asset][1] += int(avoided.quantize(Decimal(1), ROUND_HALF_UP))
    return {key: group for key, group in groups.items() if key[0] >= since}


def merged(groups, dimensions, *, total):
    """The same, added up over what nobody asked for."""
    sums = defaultdict(lambda: [Counter(), defaultdict(lambda: [0, 0])])
    for (hour, agent, service), (counts, amounts) in groups.items():
        named = {"agent": agent, "service": service}
        group = sums[None if total else hour, *(named[name] for name in dimensions)]
        group[0].update(counts)
        for asset, (retried, avoided) in amounts.items():
            group[1][asset][0] += retried
            group[1][asset][1] += avoided
    return sums


@pytest.mark.parametrize("bucket", ["1h", "total"])
async def test_retry_health_is_recomputed_from_raw_rows_in_every_grouping(site, bucket):
    await mixed(site, random.Random(23))
    since = hour_of(moment(40 * 3600))  # prices of the 24 hours before count too
    raw = await raw_retry_health(site, since)
    counts = ("attempts", "retries", "retry_successes", "skipped", "backoff_ms")
    for group in subsets(("agent", "service")):
        wanted = merged(raw, group, total=bucket == "total")
        items = await every_item(site, "/v1/retry-health", bucket=bucket, group_by=",".join(group), from_=shown(since))
        assert len(items) == len(wanted)
        for item in items:
            hour = datetime.fromisoformat(item["bucket"]) if bucket == "1h" else None
            numbers, amounts = wanted[hour, *(item[name] for name in group)]
            assert {name: item[name] for name in counts} == {name: numbers[name] for name in counts}
            told = {a["asset"]: [int(a["retry_amount"]), int(a["avoided_amount"])] for a in item["amounts"]}
            assert told == {asset: both for asset, both in amounts.items() if any(both)}
            rate = numbers["retries"] / numbers["attempts"] if numbers["attempts"] else None
            assert item["retry_rate"] == (rate if rate is None else pytest.approx(rate))
    one = await every_item(
        site, "/v1/retry-health", bucket=bucket, agent="agent-0", service="http://b", asset="CASH", from_=shown(since)
    )
    wanted = [
        amounts["CASH"] for key, (_, amounts) in raw.items() if key[1:] == ("agent-0", "http://b") and "CASH" in amounts
    ]
    told = [(a["asset"], int(a["retry_amount"]), int(a["avoided_amount"])) for item in one for a in item["amounts"]]
    assert {asset for asset, _, _ in told} <= {"CASH"}
    assert sum(retried for _, retried, _ in told) == sum(retried for retried, _ in wanted)
    assert sum(avoided for _, _, avoided in told) == sum(avoided for _, avoided in wanted)


async def test_retry_health_adds_up_to_the_view_that_panels_read(site):
    await mixed(site, random.Random(24))
    since = hour_of(moment(60 * 3600))
    [item] = await site.items("/v1/retry-health", bucket="total", group_by="", from_=shown(since))
    [(attempts, retries, skipped, retried)] = await rows(
        site.engine,
        "SELECT sum(attempts), sum(retries), sum(skipped), sum(retry_amount) FROM tollwatch.retry_health WHERE bucket >= :s",
        s=since,
    )
    assert (item["attempts"], item["retries"], item["skipped"]) == (attempts, retries, skipped)
    assert sum(int(amount["retry_amount"]) for amount in item["amounts"]) == retried


@pytest.mark.parametrize("bucket", ["1h", "1d"])
async def test_quantiles_of_latency_are_within_two_percent_of_the_exact(site, bucket):
    rng = random.Random(11)
    hour = hour_of(moment(7200))
    latencies = {service: [int(rng.lognormvariate(mean, 1)) for _ in range(3000)] for service, mean in zip(SERVICES, (5, 7), strict=True)}  # fmt: skip
    made = [
        request(site.world, service=service, latency_ms=ms, at=hour + timedelta(milliseconds=i), agent=i % 2)
        for service, found in latencies.items()
        for i, ms in enumerate(found)
    ]
    await site.write(api_requests=[*made, request(site.world, service="http://silent", at=hour, latency_ms=None)])
    await site.refresh()
    asked = {"quantiles": True, "bucket": bucket}
    by_service = {
        item["service"]: item for item in await site.items("/v1/requests/hourly", group_by="service", **asked)
    }
    [over_all] = await site.items("/v1/requests/hourly", **asked)
    assert "outcome" not in over_all
    everything = latencies | {None: [ms for found in latencies.values() for ms in found]}
    for service, item in [*by_service.items(), (None, over_all)]:
        for quantile in (50, 95, 99):
            told = item[f"latency_ms_p{quantile}"]
            if service == "http://silent":
                assert told is None
                continue
            ordered = sorted(everything[service])
            exact = ordered[len(ordered) * quantile // 100 - 1]
            assert abs(told - exact) / exact < 0.02, (service, quantile)
    [one] = await site.items("/v1/requests/hourly", agent="agent-0", service="http://a", group_by="agent", **asked)
    half = sorted(latencies["http://a"][::2])
    assert abs(one["latency_ms_p50"] - half[len(half) // 2 - 1]) / half[len(half) // 2 - 1] < 0.03
    assert "latency_ms_p50" not in (await site.items("/v1/requests/hourly", bucket=bucket))[0]
