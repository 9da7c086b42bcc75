"""Whatever the client's builders make, Tollwatch takes, and reads as it was meant."""

import dataclasses
import json
import math
import os
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tollwatch import ApiRequest, Audit, Balance, InvalidEvent, Payment, Queue, base58
from tollwatch import events as built
from tollwatch.ids import STEP_BACK_MS, EventIds, ms_of

from api import events as served
from api.decode import Window, event_time, read_amount, read_event, read_json
from api.schemas import event_schema
from store.identity import time_of
from store.settings import Settings
from store.tables import AUDIT_TYPES

EXAMPLES = int(os.environ.get("TOLLWATCH_TEST_EXAMPLES", "20"))
IDS = EventIds()

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100)
places = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
prose = st.text(max_size=2000)
addresses = st.binary(min_size=32, max_size=32).map(base58.encode)
signatures = st.binary(min_size=64, max_size=64).map(base58.encode)
uuids = st.uuids() | st.uuids().map(str)
small, medium, large = st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)
amounts = large | large.map(str)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
networks = st.sampled_from(["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"])
times = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    datetime(9000, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | times
documents = st.dictionaries(
    st.text(max_size=20),
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_size=6,
)  # fmt: skip

MEMBERS = {
    "agent": names, "id": st.builds(IDS.new), "network": networks, "payment_id": uuids, "request_id": uuids, "session": uuids,
    "amount": amounts, "balance": amounts, "asset": st.sampled_from(["USDC", "CASH"]) | addresses, "service": places,
    "facilitator": places, "x402_payment_id": places, "entity_id": places, "resource": st.text(min_size=1, max_size=3000),
    "wallet": addresses, "pay_to": addresses, "signature": signatures, "slot": large, "fee_lamports": large, "backoff_ms": large,
    "latency_ms": large, "response_bytes": large, "freshness_s": large, "confirmations": medium, "retry_count": small,
    "x402_version": small, "attempt": st.integers(1, 2**15 - 1), "max_retries": st.integers(0, 2**15 - 2),
    "response_status": st.integers(100, 999), "failure_reason": prose, "facilitator_response": documents,
    "metadata": documents, "payment_required": documents, "details": documents, "endpoint_type": names, "component": names,
    "entity_type": names, "method": st.text(min_size=1, max_size=20), "paid": st.booleans(), "request_digest": digests,
    "response_digest": digests, "data_as_of": times | times.map(datetime.isoformat),
    "event_type": st.sampled_from(AUDIT_TYPES) | st.from_regex(r"x\.[A-Za-z0-9_.-]{1,98}", fullmatch=True),
    "priority_score": st.floats(allow_nan=False, allow_infinity=False), "origin": st.just("agent"),
}  # fmt: skip
KINDS = (Payment, ApiRequest, Audit, Queue, Balance)
DOCUMENTS = {"facilitator_response", "metadata", "payment_required", "details"}


def words(kind, member):
    """The words that the builder's own annotation allows."""
    alias = {
        "status": {"payment": built.PaymentStatus, "balance": built.BalanceStatus},
        "reason": {"queue": built.QueueReason},
    }.get(member, {}).get(kind.TYPE)  # fmt: skip
    alias = alias or {
        "outcome": built.Outcome, "state": built.QueueState, "commitment": built.Commitment, "severity": built.Severity,
        "breaker_state": built.BreakerState, "error_type": built.ErrorType,
    }.get(member)  # fmt: skip
    return st.sampled_from(alias.__args__) if alias else prose


def events_of(kind):
    required, optional = {}, {}
    for field in dataclasses.fields(kind):
        strategy = MEMBERS[field.name] if field.name in MEMBERS else words(kind, field.name)
        if field.default is dataclasses.MISSING or field.name in ("agent", "id"):
            required[field.name] = strategy
        else:
            optional[field.name] = strategy
    return st.fixed_dictionaries(required, optional=optional).map(lambda members: kind(**members))


def expected(name, value):
    """A member as Tollwatch is to read it."""
    if isinstance(value, UUID):
        return str(value)
    if name in ("amount", "balance"):
        return int(value)
    if name == "data_as_of":
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)
    if isinstance(value, str):
        value = value.replace("\0", "�").encode("utf-8", "replace").decode()
        return value[: 1000 if name in ("failure_reason", "reason") else 2048]
    return value


def got(name, value):
    if isinstance(value, UUID):
        return str(value)
    if name in ("amount", "balance"):
        return read_amount(name, value)
    return datetime.fromisoformat(value) if name == "data_as_of" else value


def test_the_words_are_those_of_tollwatch():
    for kind in KINDS:
        schema = event_schema(kind.TYPE)
        theirs, ours = set(schema["properties"]), {field.name for field in dataclasses.fields(kind)}
        assert ours | {"type", "ts"} == theirs | {"agent"}, kind
        needed = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
        assert needed | {"type", "id"} | ({"agent"} if kind is not Audit else set()) == set(schema["required"])
    assert set(built.AUDIT_TYPES) == set(AUDIT_TYPES)
    assert built.KINDS.keys() == served.EVENT_TYPES.keys()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.TYPE)
def test_what_the_builders_make_is_accepted_and_read_as_meant(kind):
    validator = jsonschema.Draft202012Validator(event_schema(kind.TYPE))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(events_of(kind))
    def check(event):
        item = event.encode(IDS.new(), None)
        validator.validate(json.loads(item.body))
        read = read_event(item.body)
        assert str(read.id) == item.id == event.id
        window = Window.at(datetime.now(UTC), Settings(database_url="postgresql://x"))
        assert event_time(read.id, read.ts, window) == time_of(UUID(item.id))
        for field in dataclasses.fields(kind):
            value = getattr(event, field.name)
            if field.name in DOCUMENTS:
                told = read_json(field.name, getattr(read, field.name))
                assert (told is None) == (value is None)
                assert (
                    value is None
                    or set(json.loads(item.body)[field.name]) == {expected("", name) for name in value}
                    or "omitted" in json.loads(item.body)[field.name]
                )
            elif value is not None:
                assert got(field.name, getattr(read, field.name)) == expected(field.name, value), field.name

    check()


PAYMENT = {"payment_id": IDS.new(), "status": "pending", "amount": 1, "asset": "USDC", "service": "s", "agent": "a"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount": -1}, "amount"), ({"amount": 1.0}, "amount"), ({"amount": "01"}, "amount"), ({"amount": 2**63}, "amount"),
        ({"amount": True}, "amount"), ({"wallet": "abc"}, "wallet"), ({"wallet": "0" * 44}, "wallet"),
        ({"signature": "1" * 32}, "signature"), ({"payment_id": "x"}, "payment_id"), ({"asset": ""}, "asset"),
        ({"service": "s" * 301}, "service"), ({"status": "lost"}, "status"), ({"slot": 2**63}, "slot"),
        ({"id": "0f8fad5b-d9cb-469f-a165-70867728950e"}, "id"), ({"network": "eip155:8453"}, "network"),
        ({"metadata": [1]}, "metadata"), ({"agent": None}, "agent"), ({"retry_count": 1.5}, "retry_count"),
        ({"payment_id": None}, "payment_id"),
    ],
)  # fmt: skip
def test_what_tollwatch_would_reject_is_not_made(wrong, field):
    with pytest.raises(InvalidEvent) as caught:
        Payment(**PAYMENT | wrong).encode(IDS.new(), None)
    assert caught.value.field == field


def test_an_object_that_is_too_large_is_omitted_and_says_so():
    item = Payment(**PAYMENT, metadata={"text": "é" * 9000, "nan": math.nan}).encode(IDS.new(), None)
    assert json.loads(item.body)["metadata"]["omitted"].endswith("bytes")
    read_event(item.body)


def test_ids_ascend_carry_the_time_and_survive_a_clock_that_steps_back():
    now = [1_800_000_000_000]
    ids = EventIds(lambda: now[0])
    made = [ids.new() for _ in range(5000)]  # more than 4,096: the next millisecond is borrowed
    now[0] -= 500
    made += [ids.new() for _ in range(10)]
    now[0] += 1000
    made.append(ids.new())
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {UUID(one).version for one in made} == {7}
    assert ms_of(made[0]) == 1_800_000_000_000
    assert ms_of(made[-1]) == 1_800_000_000_500
    now[0] -= STEP_BACK_MS + 1
    assert ms_of(ids.new()) == now[0]


@given(st.binary(max_size=64))
def test_base58_round_trip(data):
    assert base58.decode(base58.encode(data)) == data
