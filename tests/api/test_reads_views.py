"""Reads of what follows from facts: told a small story, they give what one can count by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from store.settings import SOLANA_MAINNET
from tests.api.test_reads_hourly import every_item, shown
from tests.api.test_reads_tools import add_session, close_site, make_site
from tests.store.world import audit, moment, payment, queued, request, rows, sample


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    yield made
    await close_site(made)


async def a_purchase(site, base, *, seconds=0, wallet=0, amount=300, agent=0):
    """A request that was retried once and paid on the retry; its id."""
    request_id = uuid4()
    paid = payment(
        site.world,
        amount=amount,
        request_id=request_id,
        signature=uuid4().bytes * 4,
        at=base + timedelta(seconds=seconds + 2),
        agent=agent,
    )
    attempt = {"request_id": request_id, "wallet_id": site.world.wallet_ids[wallet], "agent": agent}
    await site.write(
        payments=[paid],
        api_requests=[
            request(site.world, attempt=1, outcome="retrying", at=base + timedelta(seconds=seconds), **attempt),
            request(
                site.world,
                attempt=2,
                outcome="ok",
                paid=True,
                payment_id=paid.payment_id,
                at=base + timedelta(seconds=seconds + 2),
                **attempt,
            ),
        ],
    )
    return request_id


async def test_the_ledger_has_a_line_per_request_audit_event_and_queue_event(site):
    base = moment(1000)
    await site.write(
        balance_samples=[sample(site.world, 10**6, 1, at=base)],
        audit_events=[audit(site.world, "paused", severity="warning", at=base + timedelta(seconds=30))],
        queue_events=[
            queued(
                site.world,
                at=base + timedelta(seconds=40),
                agent=1,
                asset_id=site.world.assets["USDC"],
                balance=700,
                freshness_s=9,
            )
        ],
    )
    request_id = await a_purchase(site, base, seconds=10)
    await site.write(balance_samples=[sample(site.world, 10**6 - 300, 2, at=base + timedelta(seconds=20))])
    found = await site.items("/v1/audit-trail")
    assert [(item["kind"], item["what"], item["severity"]) for item in found] == [
        ("queue", "queued", "info"),
        ("audit", "paused", "warning"),
        ("request", "ok", "info"),
    ]
    line = found[2]
    assert line["signature"] is not None
    wanted = {
        "ts": shown(base + timedelta(seconds=12)),
        "agent": "agent-0",
        "request_id": str(request_id),
        "service": "http://market",
        "success": True,
        "attempts": 2,
        "started_at": shown(base + timedelta(seconds=10)),
        "payment_status": "settled",
        "payment_origin": "agent",
        "asset": "USDC",
        "network": SOLANA_MAINNET,
        "amount": "300",
        "spent": "300",
        "balance_before": "1000000",
        "balance_after": "999700",
    }
    assert {name: line[name] for name in wanted} == wanted
    assert (found[0]["balance_before"], found[0]["details"]) == ("700", {"freshness_s": 9, "priority_score": None})
    for filters, kinds in [
        ({"kind": "queue"}, ["queue"]),
        ({"severity": "warning"}, ["audit"]),
        ({"severity": "info"}, ["queue", "request"]),
        ({"agent": "agent-1"}, ["queue"]),
        ({"request_id": request_id}, ["request"]),
        ({"request_id": request_id, "kind": "audit"}, []),
        ({"to": shown(base + timedelta(seconds=30))}, ["request"]),
    ]:
        assert [item["kind"] for item in await site.items("/v1/audit-trail", **filters)] == kinds, filters


async def test_the_ledger_is_what_the_view_has_page_by_page_over_days(site):
    for i in range(12):
        await a_purchase(site, moment(1000 + i * 13 * 3600), agent=i % 2)
    attempt = {"request_id": uuid4(), "attempt": 1}
    bought, asked_at = uuid4(), moment(100 * 3600)
    settled_at = asked_at + timedelta(hours=30)
    await site.write(
        payments=[
            payment(site.world, payment_id=bought, at=asked_at, status="pending"),
            payment(site.world, payment_id=bought, at=settled_at, origin="chain"),
        ],
        balance_samples=[
            # Before it was asked for, after it was settled (days apart, so pages apart), and too late to tell.
            sample(site.world, 900, 1, at=asked_at - timedelta(minutes=59)),
            sample(site.world, 800, 2, at=asked_at + timedelta(minutes=1)),
            sample(site.world, 700, 3, at=settled_at),
            sample(site.world, 600, 4, at=settled_at + timedelta(minutes=59)),
            *(sample(site.world, 50, 5 + i, at=moment(i * 13 * 3600), agent=i % 2) for i in range(12)),
        ],
    )
    paid = {"wallet_id": site.world.wallet_ids[0], "payment_id": bought}
    await site.write(
        # Retried past midnight, and once more too late to be the same request's next attempt.
        api_requests=[
            request(site.world, at=moment(20 * 3600), **attempt),
            request(site.world, at=moment(10 * 3600), **(attempt | {"attempt": 2})),
            request(site.world, at=moment(90 * 3600), **(attempt | {"attempt": 3})),
            request(site.world, at=asked_at, request_id=bought, **paid),
        ],
        audit_events=[audit(site.world, "x.note", at=moment(100 + i * 5 * 3600)) for i in range(20)],
        queue_events=[queued(site.world, at=moment(200 + i * 7 * 3600)) for i in range(15)],
    )
    since = moment(150 * 3600)
    columns = ("kind", "what", "attempts", "payment_status", "amount", "spent", "balance_before", "balance_after")
    viewed = await rows(
        site.engine,
        f"SELECT ts, id, {', '.join(columns)} FROM tollwatch.audit_trail WHERE project_id = :p AND ts >= :since "
        "ORDER BY ts DESC, id DESC",
        p=site.world.project_id,
        since=since,
    )
    items = await every_item(site, "/v1/audit-trail", from_=shown(since))
    assert len(items) > 40
    told = [(item["ts"], item["id"], *(item[name] for name in columns)) for item in items]
    assert ("900", "600") in {(item["balance_before"], item["balance_after"]) for item in items}
    as_text = {"amount", "spent", "balance_before", "balance_after"}
    assert told == [
        (
            shown(ts),
            str(id_),
            *(str(v) if n in as_text and v is not None else v for n, v in zip(columns, row, strict=True)),
        )
        for ts, id_, *row in viewed
    ]


async def test_the_queue_is_who_waits_and_its_history_what_happened(site):
    one, two = uuid4(), uuid4()
    base = moment(600)
    later = [base + timedelta(seconds=seconds) for seconds in range(4)]
    await site.write(
        queue_events=[
            queued(site.world, request_id=one, at=later[0], priority_score=0.5),
            queued(site.world, request_id=two, at=later[1], reason="breaker", agent=1),
            queued(site.world, request_id=one, at=later[2], state="processed", reason=None),
        ]
    )
    [waiting] = await site.items("/v1/queue")
    assert waiting == {
        "agent": "agent-1",
        "network": SOLANA_MAINNET,
        "request_id": str(two),
        "queued_at": shown(later[1]),
        "priority_score": None,
        "reason": "breaker",
    }
    assert await site.items("/v1/queue", reason="funds") == []
    history = await site.items("/v1/queue", history=True)
    assert [(item["request_id"], item["state"]) for item in history] == [
        (str(one), "processed"),
        (str(two), "queued"),
        (str(one), "queued"),
    ]
    assert history[2]["priority_score"] == 0.5
    assert len(await site.items("/v1/queue", from_=shown(later[1]))) == 2
    assert len(await site.items("/v1/queue", history=True, state="queued", agent="agent-0")) == 1
    await site.write(queue_events=[queued(site.world, request_id=uuid4(), at=base - timedelta(seconds=9))])
    assert [item["queued_at"] for item in await site.items("/v1/queue")] == sorted(
        [shown(base - timedelta(seconds=9)), shown(later[1])]
    )


async def test_sessions_say_what_is_left_of_them(site):
    used = await add_session(site, tx_used=1)
    over = await add_session(site, agent=1, expires_at=datetime.now(UTC) - timedelta(seconds=5))
    await site.write(
        payments=[payment(site.world, session_id=used) for _ in range(2)]
        + [payment(site.world, session_id=used, status="failed")]
    )
    first, second = await site.items("/v1/sessions")
    assert (first["session_id"], first["agent"], first["wallet"]) == (str(used), "agent-0", "wallet-acme-0")
    assert [first[name] for name in ("status", "tx_limit", "tx_used", "tx_settled")] == ["active", 3, 1, 2]
    assert (second["session_id"], second["status"]) == (str(over), "expired")
    assert await site.items("/v1/sessions", status="expired") == [second]
    assert await site.items("/v1/sessions", agent="agent-0", wallet="wallet-acme-0") == [first]
    assert "token_hash" not in first


async def test_runway_is_balance_over_outflow_as_the_view_says(site):
    base = moment(2800)
    amounts = [10_000, 9_000, 12_000, 11_000]
    await site.write(
        balance_samples=[sample(site.world, n, i, at=base + timedelta(minutes=15 * i)) for i, n in enumerate(amounts)]
    )
    await site.write(balance_samples=[sample(site.world, 5, 0, agent=1, asset=asset) for asset in ("SOL", "USDC")])
    found = await site.items("/v1/runway")
    assert {(item["wallet"], item["asset"]) for item in found} == {
        ("wallet-acme-0", "USDC"),
        ("wallet-acme-1", "USDC"),
        ("wallet-acme-1", "SOL"),
    }
    [flowing] = await site.items("/v1/runway", agent="agent-0")
    assert (flowing["amount"], flowing["outflow"], flowing["burn_per_hour"]) == ("11000", "2000", "2667")
    assert flowing["observed_hours"] == pytest.approx(0.75)
    assert flowing["runway_hours"] == pytest.approx(11_000 * 0.75 / 2000)
    still = await site.items("/v1/runway", wallet="wallet-acme-1", asset="SOL", status="low")
    assert [(item["outflow"], item["runway_hours"]) for item in still] == [("0", None)]
    await site.refresh()
    viewed = await rows(site.engine, "SELECT amount, outflow, observed_hours, runway_hours FROM tollwatch.runway")
    again = await site.items("/v1/runway")
    assert sorted((i["amount"], i["outflow"], i["observed_hours"]) for i in again) == sorted(
        (str(amount), str(outflow), float(hours)) for amount, outflow, hours, _ in viewed
    )


async def test_breakers_tell_how_long_they_were_in_each_state(site):
    base = moment(1000)
    told = [("breaker_opened", 0), ("breaker_half_opened", 30), ("breaker_closed", 31), ("breaker_opened", 90)]
    events = [audit(site.world, kind, component="market", at=base + timedelta(seconds=at)) for kind, at in told]
    await site.write(audit_events=events)
    found = await site.items("/v1/breakers", history=True)
    assert [(item["state"], item["seconds"]) for item in found] == [
        ("open", None),
        ("closed", 59),
        ("half_open", 1),
        ("open", 30),
    ]
    assert found[0]["ended_at"] is None
    assert (found[3]["event_id"], found[3]["ended_by"]) == (str(events[0].id), str(events[1].id))
    # A range has the times that reach into it, too.
    within = {"from": shown(base + timedelta(seconds=10)), "to": shown(base + timedelta(seconds=31))}
    assert [i["state"] for i in await site.items("/v1/breakers", **within)] == ["half_open", "open"]
    assert len(await site.items("/v1/breakers", history=True, state="open", component="market")) == 2
    [present] = await site.items("/v1/breakers")
    assert present["state"] == "open"


async def test_audit_events_say_who_dealt_with_them(site):
    opened = audit(site.world, "breaker_opened", component="market", at=moment(60))
    closed = audit(site.world, "breaker_closed", component="market", at=moment(30))
    looked = audit(site.world, "rate_limited", at=moment(90))
    await site.write(audit_events=[opened, closed, looked])
    async with site.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO tollwatch.audit_resolutions VALUES (:project, :id, :ts, 'ann', now(), 'asked them', false)"
            ),
            {"project": site.world.project_id, "id": looked.id, "ts": looked.ts},
        )
    found = {item["event_type"]: item for item in await site.items("/v1/audit-events")}
    told = ("resolved_by", "resolution", "automatic")
    assert [found["rate_limited"][name] for name in told] == ["ann", "asked them", False]
    assert [found["breaker_opened"][name] for name in told] == [f"breaker_closed {closed.id}", None, True]
    assert found["breaker_opened"]["resolved_at"] == shown(closed.ts)
    assert [found["breaker_closed"][name] for name in ("resolved_at", *told)] == [None] * 4
