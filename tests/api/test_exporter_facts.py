"""The exporter's histogram, runway, breakers, queue and audit figures, recomputed from what was told."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections import Counter
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from api.exporter_families import FAMILIES
from api.exporter_values import EDGES, histogram
from store import totals
from store.settings import SOLANA_MAINNET
from tests.api.test_exporter_tools import of, scrape
from tests.api.test_reads_tools import add_key, close_site, make_site
from tests.programs import tool
from tests.store.world import audit, make_world, moment, payment, queued, request, sample

DURATION = "tollwatch_request_duration_seconds"
DAY = 24 * 3600
FACTS = tuple(family.name for family in FAMILIES)


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    await add_key(made, "metrics", "acme", "metrics")
    yield made
    await close_site(made)


def told_attempts(site, rng, times):
    return [
        request(
            site.world,
            at=moment(rng.randrange(times)),
            agent=rng.randrange(2),
            service=rng.choice(("http://a", "http://b")),
            outcome=rng.choice(("ok", "failed")),
            latency_ms=rng.choice((None, 0, 1, int(rng.lognormvariate(6, 2)))),
        )
        for _ in range(400)
    ]


def exact_histogram(attempts, agent_id, service):
    """{le: attempts}, sum in seconds and count, as one would count them. An edge belongs to the bucket above it."""
    found = [
        a.latency_ms for a in attempts if (a.agent_id, a.service) == (agent_id, service) and a.latency_ms is not None
    ]
    buckets = {float(le): sum(ms < 10 ** (cell / 20) for ms in found) for cell, le in EDGES.items()}
    return buckets | {float("inf"): len(found)}, sum(found) / 1000, len(found)


async def test_durations_are_counted_from_the_attempts_and_a_fold_moves_nothing(site):
    attempts = told_attempts(site, random.Random(31), 20 * DAY)
    await site.write(api_requests=attempts)
    await site.refresh()

    async def check():
        found = await scrape(site)
        for number, agent_id in enumerate(site.world.agent_ids):
            for service in ("http://a", "http://b"):
                labels = {"project": "acme", "agent": f"agent-{number}", "network": SOLANA_MAINNET, "service": service}
                buckets, total, count = exact_histogram(attempts, agent_id, service)
                told = {float(le): n for (le,), n in of(found, f"{DURATION}_bucket", **labels).items()}
                assert told == buckets
                assert of(found, f"{DURATION}_sum", **labels) == {(): pytest.approx(total)}
                assert of(found, f"{DURATION}_count", **labels) == {(): count}
        return {key: value for key, value in found.items() if key[0].startswith(FACTS)}

    before = await check()
    assert await totals.fold(site.engine, site.state.edition, site.state.settings) == 3
    assert await check() == before
    attempts += (more := told_attempts(site, random.Random(32), DAY))
    await site.write(api_requests=more)
    await site.refresh()
    await check()


async def test_a_fold_under_way_is_never_seen_half_done_by_histograms_and_audit_totals(site):
    times = [moment(12 * DAY + i * 3600) for i in range(60)]
    await site.write(
        api_requests=[request(site.world, at=at) for at in times],
        audit_events=[audit(site.world, "breaker_opened", at=at, component="rpc") for at in times],
    )
    await site.refresh()
    seen = set()

    async def scrapes():
        for _ in range(10):
            found = await scrape(site)
            for name in (
                f"{DURATION}_count",
                "tollwatch_audit_events_total",
                "tollwatch_circuit_breaker_transitions_total",
            ):
                seen.add(sum(of(found, name).values()))

    await asyncio.gather(scrapes(), totals.fold(site.engine, site.state.edition, site.state.settings))
    await scrapes()
    assert seen == {60}


def test_a_histogram_is_cumulative_and_ends_with_everything():
    made = histogram({-1: 2, 19: 3, 20: 5, 60: 7, 140: 1}, 1500)
    told = dict(made.buckets)
    assert next(iter(told)) == "0.01"
    assert list(told)[-2:] == ["100", "+Inf"]
    assert len(told) == 22
    assert (told["0.01"], told["0.01585"], told["1"], told["1.585"], told["100"], told["+Inf"]) == (
        5,
        10,
        10,
        17,
        17,
        18,
    )
    assert made.total == 1.5


async def test_runway_is_absent_where_nothing_flows_out(site):
    base = moment(2800)
    await site.write(
        balance_samples=[
            *(sample(site.world, n, i, at=base + timedelta(minutes=15 * i)) for i, n in enumerate((9000, 8000, 7000))),
            sample(site.world, 5, 5, agent=1),
        ]
    )
    found = of(await scrape(site), "tollwatch_wallet_runway_seconds", project="acme", network=SOLANA_MAINNET)
    assert found == {("agent-0", "USDC", "wallet-acme-0"): pytest.approx(7000 * 1800 / 2000)}
    [item] = await site.items("/v1/runway", agent="agent-0")
    assert list(found.values()) == [pytest.approx(item["runway_hours"] * 3600)]


async def test_breaker_transitions_and_audit_events_are_counted_and_folded(site):
    rng = random.Random(33)
    kinds = {"breaker_opened": "open", "breaker_half_opened": "half_open", "breaker_closed": "closed", "paused": None}
    events = [
        audit(
            site.world,
            rng.choice(list(kinds)),
            at=moment(rng.randrange(20 * DAY)),
            agent=rng.randrange(2),
            component=rng.choice(("rpc", "market", None)),
            severity=rng.choice(("info", "error")),
        )
        for _ in range(300)
    ]
    nobody = audit(site.world, "x.boot", agent_id=None)
    await site.write(audit_events=[*events, nobody])
    await site.refresh()
    names = dict(zip(site.world.agent_ids, ("agent-0", "agent-1"), strict=True))
    who = {"project": "acme", "network": SOLANA_MAINNET}
    transitions = Counter(
        (names[e.agent_id], e.component or "", kinds[e.event_type]) for e in events if kinds[e.event_type]
    )
    counts = Counter((names[e.agent_id], e.event_type, e.severity) for e in events)
    for _ in range(2):
        found = await scrape(site)
        assert of(found, "tollwatch_circuit_breaker_transitions_total", **who) == transitions
        assert of(found, "tollwatch_audit_events_total", **who) == counts
        assert of(found, "tollwatch_audit_events_total", agent="", network="") == {("x.boot", "acme", "info"): 1}
        await totals.fold(site.engine, site.state.edition, site.state.settings)


async def test_queues_and_open_payments_are_what_is_open_now(site):
    waiting = queued(site.world)
    await site.write(
        queue_events=[waiting, queued(site.world), queued(site.world, agent=1, state="dropped")],
        payments=[payment(site.world, status=status) for status in ("pending", "pending", "unknown", "settled")],
    )
    who = {"project": "acme", "network": SOLANA_MAINNET}
    found = await scrape(site)
    assert of(found, "tollwatch_queue_depth", **who) == {("agent-0",): 2, ("agent-1",): 0}
    assert of(found, "tollwatch_open_payments", **who) == {("agent-0", "pending"): 2, ("agent-0", "unknown"): 1}
    await site.write(queue_events=[queued(site.world, request_id=waiting.request_id, state="processed", at=moment(1))])
    assert of(await scrape(site), "tollwatch_queue_depth", **who)[("agent-0",)] == 1
    async with site.engine.begin() as connection:
        await connection.execute(text("UPDATE tollwatch.agents SET archived_at = now(), active = false"))
    assert of(await scrape(site), "tollwatch_queue_depth") == {}


async def everything(site, world):
    base = moment(1800)
    await site.write(
        balance_samples=[sample(world, 9 - i, i, at=base + timedelta(minutes=i)) for i in range(3)],
        payments=[payment(world, status="pending")],
        api_requests=[request(world)],
        audit_events=[audit(world, "breaker_opened", component="rpc")],
        queue_events=[queued(world)],
    )


async def test_a_key_sees_the_facts_of_its_own_project_alone(site):
    await everything(site, site.world)
    await everything(site, await make_world(site.engine, name="other"))
    for key, projects in ((None, {"acme", "other"}), ("metrics", {"acme"})):
        found = await scrape(site, key=key)
        for name in (
            "tollwatch_wallet_runway_seconds",
            f"{DURATION}_bucket",
            "tollwatch_circuit_breaker_transitions_total",
            "tollwatch_audit_events_total",
            "tollwatch_queue_depth",
            "tollwatch_open_payments",
        ):
            told = {dict(labels)["project"] for metric, labels in found if metric == name}
            assert told == projects, (name, key)


async def test_prometheus_own_linter_finds_nothing(site):
    promtool = tool("promtool")
    await everything(site, site.world)
    exposition = (await site.get("/metrics", key=None)).content
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=exposition, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
