"""Lists of facts and of present state: their fields and filters."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest_asyncio
from solders.pubkey import Pubkey
from solders.signature import Signature
from sqlalchemy import text

from store.settings import SOLANA_MAINNET
from tests.api.test_reads_tools import close_site, make_site
from tests.store.world import audit, moment, payment, request, sample


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    yield made
    await close_site(made)


def shown(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_a_transition_is_written_with_names_strings_and_base58(site):
    at = moment()
    pay_to, signature = bytes(range(32)), bytes(range(64))
    one = payment(
        site.world,
        at=at,
        amount=2**63 - 1,
        pay_to=pay_to,
        signature=signature,
        request_id=uuid4(),
        fee_lamports=5000,
        slot=7,
        metadata='{"a": [1, 2.50]}',
        facilitator_response='{"ok": true}',
    )
    await site.write(payments=[one])
    [item] = await site.items("/v1/payments")
    assert item.pop("recorded_at").endswith("Z")
    assert item == {
        "ts": shown(at),
        "id": str(one.id),
        "payment_id": str(one.payment_id),
        "request_id": str(one.request_id),
        "x402_payment_id": None,
        "agent": "agent-0",
        "wallet": "wallet-acme-0",
        "session_id": None,
        "status": "settled",
        "amount": "9223372036854775807",
        "asset": "USDC",
        "network": SOLANA_MAINNET,
        "pay_to": str(Pubkey.from_bytes(pay_to)),
        "service": "http://market",
        "resource": None,
        "facilitator": None,
        "signature": str(Signature.from_bytes(signature)),
        "slot": 7,
        "commitment": None,
        "confirmations": None,
        "fee_lamports": "5000",
        "retry_count": 0,
        "backoff_ms": 0,
        "is_duplicate": False,
        "error_type": None,
        "failure_reason": None,
        "facilitator_response": {"ok": True},
        "metadata": {"a": [1, 2.5]},
        "origin": "agent",
    }


async def test_every_filter_of_payments_finds_its_own(site):
    signature = bytes(range(64))
    wanted = payment(
        site.world,
        agent=1,
        asset_id=site.world.assets["CASH"],
        status="failed",
        origin="chain",
        service="http://elsewhere",
        request_id=uuid4(),
        signature=signature,
    )
    await site.write(payments=[wanted, payment(site.world), payment(site.world)])
    mint = "CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH"
    filters = {
        "agent": "agent-1",
        "asset": "CASH",
        "status": "failed",
        "origin": "chain",
        "service": "http://elsewhere",
        "payment_id": wanted.payment_id,
        "request_id": wanted.request_id,
        "signature": str(Signature.from_bytes(signature)),
    }
    for name, value in [*filters.items(), ("asset", mint)]:
        assert [item["id"] for item in await site.items("/v1/payments", **{name: value})] == [str(wanted.id)], name
    assert len(await site.items("/v1/payments", **filters)) == 1
    assert await site.items("/v1/payments", **(filters | {"status": "settled"})) == []


async def test_from_is_inside_and_to_is_outside(site):
    at = moment(3600)
    times = [at, at + timedelta(milliseconds=1), at + timedelta(milliseconds=2)]
    await site.write(payments=[payment(site.world, at=when) for when in times])
    found = await site.items("/v1/payments", from_=shown(times[0]), to=shown(times[2]))
    assert [item["ts"] for item in found] == [shown(times[1]), shown(times[0])]
    offset = (times[1] + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "+02:00"
    assert len(await site.items("/v1/payments", from_=offset)) == 2


async def test_the_last_day_is_the_default_and_reaches_as_far_as_clocks_may_be_ahead(site):
    ahead, old = moment(-120), moment(25 * 3600)
    await site.write(payments=[payment(site.world, at=ahead), payment(site.world, at=old)])
    assert [item["ts"] for item in await site.items("/v1/payments")] == [shown(ahead)]


async def test_repeats_are_left_out_unless_asked_for_and_a_payment_tells_its_story(site):
    payment_id = uuid4()
    told = [
        payment(site.world, payment_id=payment_id, status=status, at=moment(100 - number))
        for number, status in enumerate(["pending", "verified", "settled", "settled"])
    ]
    await site.write(payments=told)
    statuses = [item["status"] for item in await site.items("/v1/payments")]
    assert statuses == ["settled", "verified", "pending"]
    assert len(await site.items("/v1/payments", duplicates=True)) == 4

    detail = (await site.get(f"/v1/payments/{payment_id}")).json()
    assert (detail["status"], detail["amount"], detail["agent"]) == ("settled", "1000", "agent-0")
    assert detail["opened_ts"] == shown(told[0].ts)
    assert [(t["status"], t["is_duplicate"]) for t in detail["transitions"]] == [
        ("pending", False),
        ("verified", False),
        ("settled", False),
        ("settled", True),
    ]
    assert (await site.get(f"/v1/payments/{uuid4()}")).status_code == 404
    assert (await site.get("/v1/payments/not-a-uuid")).status_code == 422


async def test_a_payment_tells_what_was_told_within_a_day_of_its_conclusion(site):
    payment_id, base = uuid4(), moment(3 * 24 * 3600)
    hours = (0, 1, 24.9, 25.1)
    await site.write(
        payments=[
            payment(site.world, payment_id=payment_id, status=status, at=base + timedelta(hours=after))
            for after, status in zip(hours, ("pending", "settled", "settled", "settled"), strict=True)
        ]
    )
    path = f"/v1/payments/{payment_id}"
    told = [shown(base + timedelta(hours=after)) for after in hours]
    assert [t["ts"] for t in (await site.get(path)).json()["transitions"]] == told[:3]
    # A head of the first schema: when the payment was last told of is when the schema changed, or still its conclusion.
    for last_ts, found in (("now()", told[:3]), ("ts", told[:2])):
        async with site.engine.begin() as connection:
            await connection.execute(text(f"UPDATE tollwatch.payment_heads SET last_ts = {last_ts}"))
        assert [t["ts"] for t in (await site.get(path)).json()["transitions"]] == found


async def test_samples_come_wallet_by_wallet_newest_first_and_hours_by_slot(site):
    hour = moment(7200).replace(minute=0, second=0, microsecond=0)
    world = site.world
    await site.write(
        balance_samples=[
            sample(world, 500, 10, at=hour),
            sample(world, 900, 12, at=hour + timedelta(minutes=1)),
            sample(world, 700, 11, at=hour + timedelta(minutes=2)),
            sample(world, 5, 11, at=hour, agent=1),
        ]
    )
    found = await site.items("/v1/balances/history", wallet="wallet-acme-0", asset="USDC")
    assert [(item["amount"], item["slot"]) for item in found] == [("700", 11), ("900", 12), ("500", 10)]
    assert {item["wallet"] for item in await site.items("/v1/balances/history", agent="agent-1")} == {"wallet-acme-1"}
    await site.refresh()
    [hourly] = await site.items("/v1/balances/history", bucket="1h", agent="agent-0")
    assert hourly == {
        "bucket": shown(hour),
        "agent": "agent-0",
        "network": SOLANA_MAINNET,
        "wallet": "wallet-acme-0",
        "asset": "USDC",
        "samples": 3,
        "low_samples": 3,
        "amount_min": "500",
        "amount_max": "900",
        "amount_first": "500",
        "amount_last": "900",
        "slot_last": 12,
        "inflow": "400",
        "outflow": "0",
    }
    latest = {item["wallet"]: item for item in await site.items("/v1/balances")}
    assert latest["wallet-acme-0"]["amount"] == "900"
    assert latest["wallet-acme-0"]["threshold"] == "10000"
    assert latest["wallet-acme-0"]["status"] == "low"
    assert await site.items("/v1/balances", status="paused") == []


async def test_an_agent_shows_its_wallets_and_their_thresholds(site):
    async with site.engine.begin() as connection:
        for symbol, amount in (("USDC", 250_000), ("SOL", 1)):
            await connection.execute(
                text("INSERT INTO tollwatch.wallet_thresholds VALUES (:wallet, :asset, :amount)"),
                {"wallet": site.world.wallet_ids[0], "asset": site.world.assets[symbol], "amount": amount},
            )
    listed = {item["agent"]: item for item in await site.items("/v1/agents")}
    assert list(listed) == ["agent-0", "agent-1"]
    detail = (await site.get("/v1/agents/agent-0")).json()
    [wallet] = detail.pop("wallets")
    assert detail == listed["agent-0"]
    assert detail["low_balance_threshold"] == "0.01"
    assert detail["api_endpoints"] == []
    assert wallet["address"] == "wallet-acme-0"
    assert wallet["thresholds"] == [{"asset": "SOL", "amount": "1"}, {"asset": "USDC", "amount": "250000"}]
    assert (await site.get("/v1/agents/nobody")).status_code == 404
    assert set(detail) | {"wallets"} == set(site.app.openapi()["components"]["schemas"]["AgentDetail"]["properties"])


async def test_requests_audit_events_and_breakers_have_their_fields_and_filters(site):
    world = site.world
    digest = bytes(range(32))
    await site.write(
        api_requests=[
            request(world, outcome="failed", error_type="timeout", component="rpc", response_digest=digest),
            request(world, payment_required='{"accepts": []}'),
        ],
        audit_events=[
            audit(world, "breaker_opened", component="rpc", severity="error", details='{"why": "429"}'),
            audit(world, "x.own", agent=1, entity_type="session", entity_id="s-1"),
        ],
    )
    [failed] = await site.items("/v1/requests", outcome="failed")
    assert (failed["error_type"], failed["response_digest"]) == ("timeout", digest.hex())
    for name, value in {"error_type": "timeout", "component": "rpc", "request_id": failed["request_id"]}.items():
        assert [item["id"] for item in await site.items("/v1/requests", **{name: value})] == [failed["id"]]
    [ok] = await site.items("/v1/requests", outcome="ok", agent="agent-0", service="http://market", origin="agent")
    assert ok["payment_required"] == {"accepts": []}
    [opened] = await site.items("/v1/audit-events", event_type="breaker_opened")
    assert (opened["details"], opened["severity"], opened["agent"]) == ({"why": "429"}, "error", "agent-0")
    for name, value in {"entity_id": "s-1", "entity_type": "session", "agent": "agent-1"}.items():
        assert [item["event_type"] for item in await site.items("/v1/audit-events", **{name: value})] == ["x.own"]
    [breaker] = await site.items("/v1/breakers", state="open")
    assert breaker["component"] == "rpc"
    assert UUID(breaker["event_id"]) == UUID(opened["id"])
    assert await site.items("/v1/breakers", state="closed") == []
