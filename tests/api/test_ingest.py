"""Ingest: exactly once, in full account, and one bad event never sinks its batch."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import zstandard
from sqlalchemy import text

from api.examples import EVENTS, EXAMPLES_TIME
from store.identity import uuid7
from tests.api.world import (
    AGENT,
    MAINNET,
    WALLET,
    address,
    api_request,
    audit,
    balance,
    lines,
    new_id,
    payment,
    queue,
    rejection,
    send,
    send_raw,
    signature,
)


async def test_a_thousand_events_three_times_shuffled_from_four_clients_are_stored_once(client, connect, counts):
    batch = [make() for make in (payment, api_request, audit) for _ in range(280)]
    batch += [queue() for _ in range(60)]
    batch += [balance(id=new_id(100 + i)) for i in range(100)]
    chunks = []
    for seed in range(3):
        copy = batch[:]
        random.Random(seed).shuffle(copy)
        chunks += [copy[start : start + 125] for start in range(0, len(copy), 125)]

    async def one_client(number):
        async with connect(Authorization=client.headers["Authorization"]) as own:
            return [await send(own, *chunk) for chunk in chunks[number::4]]

    answers = [answer for part in await asyncio.gather(*map(one_client, range(4))) for answer in part]
    assert sum(answer["accepted"] for answer in answers) == 1000
    assert sum(answer["duplicates"] for answer in answers) == 2000
    assert not any(answer["rejected"] or answer["spooled"] for answer in answers)
    found = await counts()
    assert (found["payments"], found["api_requests"], found["balance_samples"]) == (280, 280, 100)
    assert (found["queue_events"], found["queue_heads"]) == (60, 60)
    # The first sample below the threshold leaves an audit event of our own.
    assert found["audit_events"] - 280 in (0, 1)


async def test_the_same_event_twice_in_a_batch_counts_as_a_duplicate(client):
    event = payment()
    answer = await send(client, event, audit(), event)
    assert answer == {"accepted": 2, "duplicates": 1, "rejected": [], "spooled": False}


async def test_a_repeat_with_another_time_is_refused_and_one_with_its_own_is_not(client, counts):
    at = datetime.now(UTC).replace(microsecond=123_000) - timedelta(minutes=1)
    event = payment(id=str(uuid7(at)), ts=at.isoformat())
    assert (await send(client, event))["accepted"] == 1
    assert rejection(await send(client, event | {"ts": (at + timedelta(hours=1)).isoformat()})) == "id_time_mismatch"
    finer = event | {"ts": at.isoformat()[:23] + "999999+00:00"}
    assert (await send(client, finer))["duplicates"] == 1
    assert (await counts())["payments"] == 1


async def test_a_settlement_under_a_new_event_id_or_payment_id_moves_no_sum(client, query, engine):
    event = payment(amount="700", signature=signature())
    await send(client, event)
    before = await _hourly(engine)
    assert before == [("settled", 1, 700)]
    again = await send(client, event | {"id": new_id()})
    under_another = await send(client, event | {"id": new_id(), "payment_id": str(uuid.uuid4())})
    assert again["accepted"] == under_another["accepted"] == 1  # kept as evidence
    assert await _hourly(engine) == before
    assert await query("SELECT count(*) FILTER (WHERE is_duplicate), count(*) FROM tollwatch.payments") == [(2, 3)]


async def _hourly(engine):
    """Sums as a reader sees them, whose view needs a login of its own: here, the view below it."""
    statement = "SELECT status, sum(payments)::int, sum(amount)::bigint FROM tollwatch.payments_hourly GROUP BY status"
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def test_one_bad_event_among_good_ones_is_refused_alone(client, counts):
    good = [payment(), api_request(), audit(), balance()]
    bad = payment(amount="1.5")
    answer = await send(client, *good[:2], bad, *good[2:])
    assert answer["accepted"] == 4
    (refused,) = answer["rejected"]
    assert (refused["index"], refused["id"], refused["code"]) == (2, bad["id"], "invalid_amount")
    assert "amount" in refused["message"]
    assert (await counts())["payments"] == 1


async def test_a_line_that_cannot_be_parsed_is_refused_alone(client):
    body = lines(payment(), "{not json", "", "   ", audit(), '"\\ud800"', "[1]", b"\xff".decode("latin-1"))
    answer = (await send_raw(client, body, "application/x-ndjson; charset=utf-8")).json()
    assert answer["accepted"] == 2
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (1, "malformed"),
        (3, "malformed"),
        (4, "malformed"),
        (5, "malformed"),
    ]


async def test_gzip_of_one_or_more_members_is_read(client):
    first, second = lines(payment()).encode(), b"\n" + lines(audit()).encode()
    body = gzip.compress(first) + gzip.compress(second)
    response = await send_raw(client, body, "application/ndjson", **{"Content-Encoding": "gzip"})
    assert response.json()["accepted"] == 2


async def test_zstd_of_one_or_more_frames_is_read(client):
    first, second = lines(payment()).encode(), b"\n" + lines(audit()).encode()
    skipped = b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab"
    body = zstandard.compress(first) + skipped + zstandard.compress(second, 22)
    response = await send_raw(client, body, "application/ndjson", **{"Content-Encoding": "zstd"})
    assert response.json()["accepted"] == 2


async def test_nothing_is_an_answer(client):
    assert await send(client) == {"accepted": 0, "duplicates": 0, "rejected": [], "spooled": False}


async def test_every_column_arrives(client, query):
    event = payment(
        request_id=str(uuid.uuid4()),
        x402_payment_id="memo-1",
        session=str(uuid.uuid4()),
        network=MAINNET,
        pay_to=address(),
        resource="https://market.example.com/v1/price/SOL",
        facilitator="https://facilitator.example.com",
        signature=signature(),
        slot=2**63 - 1,
        commitment="finalized",
        confirmations=2**31 - 1,
        fee_lamports=5000,
        retry_count=2,
        backoff_ms=250,
        error_type="timeout",
        failure_reason="slow",
        facilitator_response={"success": True, "amount": 12345678901234567890123, "fee": 0.1000},
        metadata={"price": 1.10, "nested": [{"a": None}]},
        origin="facilitator",
        amount=2**63 - 1,
    )
    assert (await send(client, event))["accepted"] == 1
    (row,) = await query("SELECT * FROM tollwatch.payments")
    for name in ("slot", "commitment", "confirmations", "fee_lamports", "retry_count", "backoff_ms", "error_type",
                 "failure_reason", "resource", "facilitator", "x402_payment_id", "status", "origin", "amount"):  # fmt: skip
        assert getattr(row, name) == event[name], name
    assert (str(row.request_id), str(row.session_id)) == (event["request_id"], event["session"])
    assert (row.signature is not None, len(row.pay_to)) == (True, 32)
    assert row.metadata == event["metadata"]
    assert row.facilitator_response["amount"] == event["facilitator_response"]["amount"]


async def test_a_number_in_metadata_stays_what_it_is(client, query):
    event = json.dumps(payment()).removesuffix("}") + ', "metadata": {"price": 12345678901234567.1234567890}}'
    assert (await send_raw(client, f"[{event}]")).json()["accepted"] == 1
    ((price,),) = await query("SELECT metadata ->> 'price' FROM tollwatch.payments")
    assert price == "12345678901234567.1234567890"


async def test_a_request_is_queued_and_processed(client, query):
    queued = queue(
        id=new_id(60),
        priority_score=0.75,
        reason="funds",
        asset="USDC",
        network=MAINNET,
        balance=str(2**63 - 1),
        freshness_s=2**63 - 1,
        origin="agent",
    )
    processed = queue(id=new_id(30), request_id=queued["request_id"], state="processed", reason=None, balance=0)
    assert (await send(client, queued))["accepted"] == 1
    state = "SELECT request_id, priority_score, reason FROM tollwatch.queue_state"
    assert await query(state) == [(uuid.UUID(queued["request_id"]), 0.75, "funds")]
    assert await send(client, processed, queued) == {"accepted": 1, "duplicates": 1, "rejected": [], "spooled": False}
    assert await query(state) == []
    first, second = await query("SELECT q.*, a.symbol FROM tollwatch.queue_events q LEFT JOIN tollwatch.assets a"
                                " ON a.id = q.asset_id ORDER BY q.ts")  # fmt: skip
    assert (first.state, first.symbol, first.balance, first.freshness_s) == ("queued", "USDC", 2**63 - 1, 2**63 - 1)
    assert (second.state, second.symbol, second.balance, second.priority_score) == ("processed", None, 0, None)


async def test_defaults_come_from_the_agent(client, query):
    await client.put("/v1/agents/frugal", json={"max_retries": 1})
    answer = await send(client, api_request(agent="frugal", attempt=2), api_request(agent="frugal", attempt=3))
    assert (answer["accepted"], rejection(answer)) == (1, "invalid_field")
    await client.put("/v1/agents/frugal", json={"max_retries": 2})
    assert (await send(client, api_request(agent="frugal", attempt=3)))["accepted"] == 1
    assert await query("SELECT attempt, max_retries FROM tollwatch.api_requests ORDER BY ts, id") == [(2, 1), (3, 2)]


async def test_balances_are_compared_with_the_threshold_in_force(client, query):
    await client.put(f"/v1/agents/{AGENT}/wallets/{WALLET}", json={"thresholds": {"USDC": "100"}})
    await send(client, balance(amount=100, slot=1), balance(id=new_id(30), amount=99, slot=2))
    found = await query("SELECT amount, threshold, status FROM tollwatch.balance_samples ORDER BY slot")
    assert found == [(100, 100, "sufficient"), (99, 100, "low")]


async def test_an_unknown_agent_is_refused_until_it_is_registered(client):
    event = payment(agent="late-comer")
    assert rejection(await send(client, event)) == "unknown_agent"
    await client.put("/v1/agents/late-comer", json={})
    assert (await send(client, event))["accepted"] == 1


async def test_an_unknown_wallet_and_mint_are_kept_and_flagged(client, query):
    wallet, mint = address(), address()
    assert (await send(client, payment(wallet=wallet, asset=mint), payment(wallet=wallet, asset=mint)))["accepted"] == 2
    wallets = await query("SELECT registered, agent_id FROM tollwatch.wallets WHERE address_text = :w", w=wallet)
    assets = await query("SELECT registered, symbol, decimals FROM tollwatch.assets WHERE symbol = :m", m=mint)
    assert (wallets, assets) == ([(False, None)], [(False, mint, None)])
    assert rejection(await send(client, payment(asset="DOGE"))) == "unknown_asset"


async def test_many_clients_may_name_the_same_unknown_wallets_at_once(client, query):
    wallets = [address() for _ in range(20)]
    batches = [[payment(wallet=wallet, asset=wallet) for wallet in wallets] for _ in range(8)]
    answers = await asyncio.gather(*(send(client, *batch) for batch in batches))
    assert sum(answer["accepted"] for answer in answers) == 160
    assert await query("SELECT count(*) FROM tollwatch.wallets WHERE NOT registered") == [(20,)]
    assert await query("SELECT count(*) FROM tollwatch.assets WHERE NOT registered") == [(20,)]


class TestBounded:
    @pytest.fixture
    def settings(self, settings):
        return replace(settings, max_unregistered=3, max_batch=5)

    async def test_unregistered_names_are_bounded(self, client, query):
        many = [audit(), *(payment(wallet=address()) for _ in range(4))]
        answer = await send(client, *many)
        assert (answer["accepted"], rejection(answer)) == (4, "too_many_unregistered")
        assert rejection(await send(client, payment(asset=address()))) == "too_many_unregistered"
        refused = many[answer["rejected"][0]["index"]]
        await client.put(f"/v1/agents/{AGENT}/wallets/{refused['wallet']}", json={})
        assert (await send(client, refused))["accepted"] == 1
        assert await query("SELECT count(*) FROM tollwatch.wallets WHERE NOT registered") == [(3,)]

    async def test_a_batch_is_bounded(self, client, counts):
        before = await counts()
        for body, kind in (
            (json.dumps([audit()] * 6), "application/json"),
            (lines(*[audit()] * 6), "application/ndjson"),
        ):
            response = await send_raw(client, body, kind)
            assert (response.status_code, response.json()["code"]) == (413, "too_many_events")
        assert await counts() == before


async def test_an_event_of_a_facilitator_needs_its_scope(connect, client, make_key):
    for scopes, origin, accepted in (
        (["ingest"], "agent", 1),
        (["ingest"], "facilitator", 0),
        (["ingest:facilitator"], "facilitator", 1),
        (["ingest:facilitator"], "agent", 0),
    ):
        async with connect(Authorization=f"Bearer {await make_key(*scopes)}") as own:
            answer = await send(own, payment(origin=origin))
        assert answer["accepted"] == accepted
        assert accepted or rejection(answer) == "forbidden_origin"
    for origin in ("chain", "collector", "import"):
        assert rejection(await send(client, payment(origin=origin))) == "invalid_field"


async def test_secrets_are_redacted_before_they_are_stored(client, query):
    secret = "hunter2hunter2hunter2"
    event = payment(
        resource=f"https://user:{secret}@api.example.com/v1?api_key={secret}&symbol=SOL",
        failure_reason=f"401 for Bearer {secret}",
        metadata={"headers": {"Authorization": f"Bearer {secret}"}, "note": f"password={secret}", "memo": "kept"},
        signature=signature(),
    )
    assert (await send(client, event))["accepted"] == 1
    ((whole, metadata, stored),) = await query("SELECT p::text, p.metadata, p.signature FROM tollwatch.payments p")
    assert secret not in whole
    assert metadata["memo"] == "kept"
    assert len(stored) == 64


async def test_the_metric_counts_by_type_result_and_code(client, app):
    event = payment()
    await send(
        client,
        event,
        event,
        audit(),
        payment(amount=-1),
        queue(),
        queue(balance=-1),
        {"type": "z" * 500},
        {"id": new_id()},
    )
    registry = app.state.tollwatch.registry

    def value(*labels):
        return registry.get_sample_value(
            "tollwatch_ingest_events_total", dict(zip(("type", "result", "code"), labels, strict=True))
        )

    assert value("payment", "accepted", "") == value("payment", "duplicate", "") == value("audit", "accepted", "") == 1
    assert value("payment", "rejected", "invalid_amount") == value("queue", "rejected", "invalid_amount") == 1
    assert value("queue", "accepted", "") == 1
    assert value("other", "rejected", "unknown_type") == 2


async def test_the_examples_are_accepted(client, clock):
    clock.now = EXAMPLES_TIME + timedelta(minutes=1)
    answer = await send(client, *EVENTS.values())
    assert (answer["accepted"], answer["rejected"]) == (len(EVENTS), [])


async def test_fifty_clients_of_single_events_with_overlaps_each_hear_of_their_own(client, connect, query):
    events = [payment(amount=str(number)) for number in range(40)]

    async def one_client(number):
        async with connect(Authorization=client.headers["Authorization"]) as own:
            return [(which % 40, await send(own, events[which % 40])) for which in (number, number + 3)]

    told = [pair for part in await asyncio.gather(*map(one_client, range(50))) for pair in part]
    accepted = [0] * len(events)
    for which, answer in told:
        assert answer["accepted"] + answer["duplicates"] == 1
        accepted[which] += answer["accepted"]
    assert accepted == [1] * len(events)
    assert await query("SELECT count(*), sum(amount) FROM tollwatch.payments") == [(40, sum(range(40)))]


async def test_what_only_the_database_refuses_is_rejected_alone(client, query):
    await query("ALTER TABLE tollwatch.payments ADD CONSTRAINT lucky CHECK (amount <> 7)")
    batches = [[payment(amount=number), audit(), api_request(), payment()] for number in (7, 8, 9, 7, 10)]
    answers = await asyncio.gather(*(send(client, *batch) for batch in batches))
    assert [answer["accepted"] for answer in answers] == [3, 4, 4, 3, 4]
    for answer, batch in zip(answers, batches, strict=True):
        assert [(one["index"], one["id"], one["code"]) for one in answer["rejected"]] == [
            (0, event["id"], "not_storable") for event in batch[:1] if event["amount"] == 7
        ]
        assert all("lucky" in one["message"] for one in answer["rejected"])
    assert await query("SELECT count(*) FROM tollwatch.payments") == [(8,)]


async def test_members_that_say_nothing_or_the_default_change_nothing(client, query):
    quiet = payment(slot=None, metadata=None, origin="agent", retry_count=0, failure_reason="a: b")
    assert (await send(client, quiet, audit(agent=None), payment(metadata={"a:b": "c:d"})))["accepted"] == 3
    assert (await send_raw(client, lines(quiet, payment()), "application/x-ndjson")).json()["duplicates"] == 1
    assert await query("SELECT metadata FROM tollwatch.payments WHERE metadata IS NOT NULL") == [({"a:b": "c:d"},)]
