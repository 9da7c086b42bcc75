"""Drafts: they come back from bytes as they were, and get their ids from the directory."""

from __future__ import annotations

from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from store.directory import Directory
from store.drafts import OPEN, Drafts, resolve
from store.engine import create_engine
from store.facts import MAX_AMOUNT
from store.settings import SOLANA_MAINNET, Settings
from tests.store.world import World, audit, make_world, moment, payment, queued, request, rows, sample

MINT = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
NOWHERE = World(2**31 - 1, (2**31 - 1,), (OPEN,), {"USDC": OPEN})
WALLET = (SOLANA_MAINNET, b"\0\xff" * 16)


@pytest_asyncio.fixture
async def engine(database_url, deadlines):
    made = create_engine(database_url, deadlines)
    yield made
    await made.dispose()


def one_of_each(world):
    drafts = Drafts(project_id=world.project_id)
    full = payment(
        world,
        amount=MAX_AMOUNT,
        wallet_id=None,
        asset_id=OPEN,
        session_id=uuid4(),
        pay_to=b"\0" * 32,
        signature=bytes(range(64)),
        slot=2**63 - 1,
        metadata='{"b": 1.10}',
        failure_reason="µ\U0001f600",
    )
    drafts.payments.add(full, WALLET, (SOLANA_MAINNET, MINT), 4)
    drafts.api_requests.add(request(world, data_as_of=moment(0.001), paid=True), None, None, 0)
    drafts.audit_events.add(audit(world, "x.y", agent_id=None, details="{}"), None, None, 1)
    score = 0.1 + 0.2
    drafts.queue_events.add(queued(world, priority_score=score, balance=0), None, (SOLANA_MAINNET, "USDC"), 10_000)
    drafts.balance_samples.add(sample(world, 1, 2**63 - 1), WALLET, (SOLANA_MAINNET, "USDC"), 3)
    return drafts


def test_every_field_comes_back_from_bytes():
    drafts = one_of_each(NOWHERE)
    again = Drafts.decode(drafts.encode())
    assert again == drafts
    assert len(again) == 5
    assert again.payments.facts[0].ts.utcoffset() is not None
    assert type(again.payments.wallets[0][1]) is bytes


@given(
    score=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(codec="utf-8")),
    raw=st.binary(max_size=64),
    at=st.datetimes(min_value=moment(10**9).replace(tzinfo=None), timezones=st.just(moment().tzinfo)),
)
def test_any_value_comes_back_from_bytes(score, text, raw, at):
    drafts = Drafts(project_id=1)
    drafts.queue_events.add(queued(NOWHERE, priority_score=score), (text, raw), (text, text), 0)
    drafts.payments.add(payment(NOWHERE, service=text, signature=raw, id=uuid4()), None, None, 1)
    drafts.api_requests.add(request(NOWHERE, data_as_of=at), None, None, 2)
    assert Drafts.decode(drafts.encode()) == drafts


async def test_what_drafts_name_gets_its_id(engine, database_url):
    world = await make_world(engine)
    directory = Directory(engine, Settings(database_url=database_url))
    drafts = one_of_each(world)
    facts = (await resolve(drafts, directory)).facts
    ((wallet_id, registered),) = await rows(
        engine, "SELECT id, registered FROM tollwatch.wallets WHERE address = :raw", raw=WALLET[1]
    )
    assert not registered
    assert facts.payments[0].wallet_id == facts.balance_samples[0].wallet_id == wallet_id
    assert facts.queue_events[0].asset_id == facts.balance_samples[0].asset_id == world.assets["USDC"]
    assert await rows(engine, "SELECT symbol FROM tollwatch.assets WHERE id = :id", id=facts.payments[0].asset_id) == [
        (MINT,)
    ]
    assert facts.audit_events == drafts.audit_events.facts


@pytest.mark.parametrize("limit", [0, 1])
async def test_what_gets_no_id_is_said_and_leaves_the_others_alone(engine, database_url, limit):
    world = await make_world(engine)
    directory = Directory(engine, Settings(database_url=database_url, max_unregistered=limit))
    drafts = Drafts(project_id=world.project_id)
    names = [None, (SOLANA_MAINNET, b"\xfe" * 32), (SOLANA_MAINNET, b"\xff" * 32)]
    for index, wallet in enumerate(names):
        drafts.payments.add(payment(world), wallet, (SOLANA_MAINNET, "USDC"), index)
    drafts.payments.add(payment(world), None, (SOLANA_MAINNET, "DOGE"), 3)
    resolved = await resolve(drafts, directory)
    assert len(resolved.facts.payments) == 1 + limit
    assert resolved.lost[3] == (SOLANA_MAINNET, "DOGE")
    assert set(resolved.lost) == {1, 2, 3} - set(range(1, 1 + limit))
