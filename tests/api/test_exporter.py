"""The exporter's figures: what they are recomputed from, and that they never fall."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
import pytest_asyncio
from sqlalchemy import text

from api.exporter_values import in_tokens
from store import totals
from store.horizons import ROLLUPS
from store.settings import SOLANA_MAINNET
from tests.api.test_exporter_tools import of, scrape
from tests.api.test_reads_tools import add_key, close_site, make_site
from tests.store.world import audit, moment, payment, request, rows, sample


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    await add_key(made, "metrics", "acme", "metrics")
    yield made
    await close_site(made)


async def test_balances_are_the_heads_in_whole_tokens(site):
    at = moment(30)
    await site.write(
        balance_samples=[
            sample(site.world, 1_234_567, 10, at=at),
            sample(site.world, 9, 9, at=moment(20)),  # a node that lags: the head stays
            sample(site.world, 2_500_000_000, 10, asset="SOL", agent=1),
        ]
    )
    found = await scrape(site)
    wallet = {"project": "acme", "agent": "agent-0", "network": SOLANA_MAINNET, "wallet": "wallet-acme-0"}
    assert of(found, "tollwatch_wallet_balance", **wallet) == {("USDC",): 1.234567}
    assert of(found, "tollwatch_wallet_balance_threshold", **wallet) == {("USDC",): 0.01}
    updated = of(found, "tollwatch_wallet_balance_updated_timestamp_seconds", **wallet)
    assert updated == {("USDC",): at.timestamp()}
    assert of(found, "tollwatch_wallet_balance", agent="agent-1", asset="SOL")[
        (SOLANA_MAINNET, "acme", "wallet-acme-1")
    ] == pytest.approx(2.5)


async def test_totals_are_the_sums_of_the_facts_and_repeats_move_nothing(site):
    rng = random.Random(5)
    ids = [payment(site.world).payment_id for _ in range(40)]
    facts = [
        payment(
            site.world,
            at=moment(rng.randrange(5 * 24 * 3600)),
            payment_id=rng.choice(ids),
            status=rng.choice(("pending", "settled", "failed")),
            origin=rng.choice(("agent", "chain")),
            agent=rng.randrange(2),
            amount=rng.randrange(10**12),
        )
        for _ in range(120)
    ]
    attempts = [
        request(
            site.world,
            at=moment(rng.randrange(5 * 24 * 3600)),
            attempt=rng.randint(1, 3),
            outcome=rng.choice(("ok", "failed")),
            service=rng.choice(("http://a", "http://b")),
        )
        for _ in range(80)
    ]
    await site.write(payments=facts, api_requests=attempts)
    await site.refresh()
    found = await scrape(site)
    counted, summed = Counter(), Counter()
    for agent, status, origin, amount in await rows(
        site.engine,
        "SELECT g.name, status, origin, amount FROM tollwatch.payments p JOIN tollwatch.agents g ON g.id = p.agent_id"
        " WHERE NOT is_duplicate",
    ):
        counted[agent, "USDC", SOLANA_MAINNET, origin, "acme", status] += 1
        summed[agent, "USDC", SOLANA_MAINNET, origin, "acme", status] += amount
    assert of(found, "tollwatch_payments_total") == counted
    assert of(found, "tollwatch_payment_amount_total") == {key: value / 10**6 for key, value in summed.items()}
    outcomes = Counter(("agent-0", SOLANA_MAINNET, a.outcome, "acme", a.service) for a in attempts)
    assert of(found, "tollwatch_requests_total") == outcomes
    retries = Counter()
    for attempt in attempts:
        retries["agent-0", SOLANA_MAINNET, "acme", attempt.service] += attempt.attempt > 1
    assert of(found, "tollwatch_request_retries_total") == retries

    repeats = [
        payment(site.world, at=moment(40), payment_id=f.payment_id, status=f.status, origin="facilitator")
        for f in facts
    ]
    await site.write(payments=repeats + facts, api_requests=attempts)
    await site.refresh()
    again = await scrape(site)
    for name in ("payments", "payment_amount", "requests", "request_retries"):
        assert of(again, f"tollwatch_{name}_total") == of(found, f"tollwatch_{name}_total")


async def test_totals_stay_through_a_fold_and_go_on_from_there(site):
    old = [payment(site.world, at=moment(12 * 24 * 3600 + i * 3600)) for i in range(30)]
    fresh = [payment(site.world, at=moment(i * 3600)) for i in range(30)]
    attempts = [request(site.world, at=fact.ts, attempt=2) for fact in old + fresh]
    await site.write(payments=old + fresh, api_requests=attempts)
    await site.refresh()
    before = await scrape(site)
    assert list(of(before, "tollwatch_payments_total").values()) == [60]
    assert await totals.fold(site.engine, site.state.edition, site.state.settings) == 3
    assert (await rows(site.engine, "SELECT payments FROM tollwatch.payment_totals")) == [(30,)]
    after = await scrape(site)
    assert await totals.fold(site.engine, site.state.edition, site.state.settings) == 0
    for name in ("payments", "payment_amount", "requests", "request_retries"):
        assert of(after, f"tollwatch_{name}_total") == of(before, f"tollwatch_{name}_total")
    await site.write(payments=[payment(site.world, at=moment(1))])
    assert list(of(await scrape(site), "tollwatch_payments_total").values()) == [61]


async def test_a_fold_under_way_is_never_seen_half_done(site):
    await site.write(payments=[payment(site.world, at=moment(12 * 24 * 3600 + i * 3600)) for i in range(60)])
    await site.refresh()
    seen = []

    async def scrapes():
        for _ in range(12):
            found = await scrape(site)
            seen.append(sum(of(found, "tollwatch_payments_total").values()))

    await asyncio.gather(scrapes(), scrapes(), totals.fold(site.engine, site.state.edition, site.state.settings))
    assert set(seen) == {60}


async def test_breakers_have_one_state_of_three(site):
    await site.write(audit_events=[audit(site.world, "breaker_half_opened", component="rpc")])
    states = of(await scrape(site), "tollwatch_circuit_breaker_state", component="rpc", agent="agent-0")
    assert {state: value for (_, _, state), value in states.items()} == {"closed": 0, "open": 0, "half_open": 1}


async def test_the_exporter_tells_about_itself(site, edition):
    found = await scrape(site)
    assert of(found, "tollwatch_exporter_database_up") == {(): 1}
    assert set(of(found, "tollwatch_rollup_lag_seconds")) == {(rollup.name,) for rollup in ROLLUPS}
    assert set(of(found, "tollwatch_db_pool_connections")) == {("in_use",), ("idle",)}
    assert [labels[0] for labels in of(found, "tollwatch_build_info")] == [edition]
    site.state.ingest_metrics.count("payment", "accepted", number=3)
    assert of(await scrape(site), "tollwatch_ingest_events_total") == {("", "accepted", "payment"): 3}


async def test_label_values_are_escaped(site):
    nasty = 'a"b\\c\nd\\n{}, é'
    async with site.engine.begin() as connection:
        await connection.execute(
            text("UPDATE tollwatch.agents SET name = :name WHERE id = :id"),
            {"name": nasty, "id": site.world.agent_ids[0]},
        )
    await site.write(api_requests=[request(site.world, service=nasty)])
    assert (nasty, SOLANA_MAINNET, "acme", nasty) in of(await scrape(site), "tollwatch_request_retries_total")


async def test_a_second_asset_of_the_same_symbol_goes_by_its_mint(site):
    mint = bytes(range(32))
    async with site.engine.begin() as connection:
        found = await connection.execute(
            text(
                "INSERT INTO tollwatch.assets (project_id, network, mint, symbol, decimals, registered)"
                " VALUES (:project, :network, :mint, 'USDC', 9, true) RETURNING id"
            ),
            {"project": site.world.project_id, "network": SOLANA_MAINNET, "mint": mint},
        )
        fake = found.scalar_one()
    await site.write(payments=[payment(site.world, amount=1_000_000), payment(site.world, asset_id=fake, amount=5)])
    amounts = of(await scrape(site), "tollwatch_payment_amount_total")
    assert {labels[1]: value for labels, value in amounts.items()} == {
        "USDC": 1.0,
        "1thX6LZfHDZZKUs92febYZhYRcXddmzfzF2NvTkPNE": 5e-9,
    }


async def test_what_is_archived_has_no_gauge_and_keeps_its_counts(site):
    await site.write(balance_samples=[sample(site.world, 1, 1)], payments=[payment(site.world)])
    async with site.engine.begin() as connection:
        await connection.execute(text("UPDATE tollwatch.agents SET archived_at = now(), active = false"))
    found = await scrape(site)
    assert of(found, "tollwatch_wallet_balance") == {}
    assert list(of(found, "tollwatch_payments_total").values()) == [1]


def test_tokens_are_the_nearest_float_and_never_fall():
    assert in_tokens(123_456_789, 6) == 123.456789
    assert in_tokens(2**63 - 1, 0) == float(2**63 - 1)
    assert in_tokens(10**70 + 1, 18) == 1e52
    amounts = [2**60 + i for i in range(2000)]
    told = [in_tokens(amount, 6) for amount in amounts]
    assert told == sorted(told)
