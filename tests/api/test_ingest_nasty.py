"""Bodies and events that are wrong, by accident or on purpose: always a 4xx or a rejection, and nothing changes."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import zstandard
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.body import Decompressor
from api.events import EVENT_TYPES
from api.rejections import Code
from store.identity import uuid7
from tests.api.world import (
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
)

V4 = "6b1f1b2e-7c55-4d0e-9a52-0d9f6f0e8f11"


@pytest.fixture
def settings(settings):
    return replace(settings, max_body=256 * 1024)


def _bomb(size):
    return gzip.compress(b"[" + b" " * size + b"]")


BODIES = [
    ("empty", b"", 400),
    ("not JSON", b"hello", 400),
    ("half JSON", b'[{"type": "payment"', 400),
    ("not UTF-8", b"\xff\xfe[]", 400),
    ("byte order mark", b"\xef\xbb\xbf[]", 400),
    ("NaN", b"[NaN]", 400),
    ("infinity", b"[-Infinity]", 400),
    ("an object", b'{"type": "payment"}', 422),
    ("a number", b"17", 422),
    ("null", b"null", 422),
    ("deep arrays", b"[" * 100_000, 400),
    ("deep, closed", b"[" * 50_000 + b"]" * 50_000, 400),
    ("deep objects", b'[{"a":' * 20_000, 400),
    ("too large", b"[" + b" " * 300_000 + b"]", 413),
    ("two documents", b"[][]", 400),
    ("a raw control character", b'["\x00"]', 400),
    ("a million values", b"[" + b"1," * 120_000 + b"1]", 413),
]


async def test_a_body_that_cannot_be_read_is_a_problem_and_changes_nothing(client, counts):
    before = await counts()
    for name, body, status in BODIES:
        response = await send_raw(client, body)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), name
        assert set(response.json()) == {"type", "title", "status", "detail", "code"}, name
        assert len(response.json()["detail"]) < 500, name
    assert await counts() == before


GZIPS = [
    ("bomb", _bomb(50_000_000), 413),
    ("bomb of bombs", b"".join([_bomb(100_000)] * 5), 413),
    ("cut off", gzip.compress(b"[]" * 1000)[:-9], 400),
    ("not gzip", b"[]", 400),
    ("zlib", zlib.compress(b"[]"), 400),
    ("trailing rubbish", gzip.compress(b"[]") + b"rubbish", 400),
    ("thousands of members", gzip.compress(b"") * 5_000, 400),
    ("empty", gzip.compress(b""), 400),
]


def _zstd(body, **options):
    return zstandard.ZstdCompressor(**options).compress(body)


def _streamed_zstd(size):
    """Of no declared size, as a client that compresses as it goes sends it."""
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(b"[" + b" " * size + b"]") + stream.flush()


ZSTDS = [
    ("bomb", _zstd(b"[" + b" " * 50_000_000 + b"]"), 413),
    ("bomb, streamed", _streamed_zstd(50_000_000), 413),
    ("bomb of bombs", _zstd(b" " * 100_000) * 5, 413),
    ("cut off", _zstd(b"[]" * 1000)[:-1], 400),
    ("cut off after its header", _zstd(b"[]" * 1000)[:5], 400),
    ("not zstd", b"[]", 400),
    ("gzip", gzip.compress(b"[]"), 400),
    ("a wrong checksum", _zstd(b"[]", write_checksum=True)[:-1] + b"\0", 400),
    ("trailing rubbish", _zstd(b"[]") + b"rubbish", 400),
    ("thousands of frames", _zstd(b"") * 5_000, 400),
    ("a window of 64 MiB", b"\x28\xb5\x2f\xfd\x00\x80\x11\x00\x00[]", 400),
    ("a frame to be skipped, and no other", b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab", 400),
    ("a dictionary that nobody has", b"\x28\xb5\x2f\xfd\x21\x05\x02\x11\x00\x00[]", 400),
    ("empty", _zstd(b""), 400),
]


@pytest.mark.parametrize(("coding", "bodies"), [("gzip", GZIPS), ("zstd", ZSTDS)], ids=["gzip", "zstd"])
async def test_compressed_bodies_are_bounded(client, counts, coding, bodies):
    before = await counts()
    for name, body, status in bodies:
        response = await send_raw(client, body, **{"Content-Encoding": coding})
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), name
    assert await counts() == before


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("step", [1, 7, 100, 10**9])
def test_what_is_compressed_comes_back_whatever_the_chunks(coding, step):
    parts = [b"", b"[1,", os.urandom(3000), b" " * 300_000, b"]"]
    compress = {"gzip": gzip.compress, "zstd": _zstd}[coding]
    body = b"".join(map(compress, parts))
    decompressor = Decompressor(coding, 400_000)
    output = b"".join(decompressor.feed(body[start : start + step]) for start in range(0, len(body), step))
    decompressor.finish()
    assert output == b"".join(parts)


@pytest.mark.parametrize(("coding", "excess"), [("gzip", 1), ("zstd", 4 * 1024**2)])
def test_a_bomb_is_left_soon_after_the_limit(coding, excess):
    bomb = {"gzip": _bomb, "zstd": _streamed_zstd}[coding](50_000_000)
    assert 100_000 < len(Decompressor(coding, 100_000).feed(bomb)) <= 100_000 + excess


async def test_other_forms_are_415_and_say_what_is_taken(client):
    for headers, named in (
        ({"Content-Type": "text/plain"}, "application/x-ndjson"),
        ({"Content-Type": ""}, "application/json"),
        ({"Content-Type": "application/json; charset=latin-1"}, "application/json"),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, "zstd"),
        ({"Content-Type": "application/json", "Content-Encoding": "x-"}, "zstd"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip, zstd"}, "gzip"),
    ):
        response = await client.post("/v1/events", content=b"[]", headers=headers)
        assert response.status_code == 415, headers
        assert named in response.json()["detail"]


async def test_a_body_larger_than_it_says_is_not_read_to_its_end(client):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    response = await send_raw(client, endless())
    assert response.status_code == 413
    assert sent < 1024 * 1024


def _ts(text):
    return payment(id=V4, ts=text)


def _soon(**delta):
    return str(uuid7(datetime.now(UTC) + timedelta(**delta)))


EVENTS = [
    ("a number", 5, Code.MALFORMED),
    ("null", None, Code.MALFORMED),
    ("an array", [], Code.MALFORMED),
    ("no type", {"id": V4}, Code.UNKNOWN_TYPE),
    ("type of another kind", {"type": {"a": 1}}, Code.UNKNOWN_TYPE),
    ("a type of nobody's", {"type": "transfer", "id": V4}, Code.UNKNOWN_TYPE),
    ("no id", payment(id=...), Code.INVALID_ID),
    ("id not a UUID", payment(id="17"), Code.INVALID_ID),
    ("id a number", payment(id=17), Code.INVALID_ID),
    ("v4 without ts", payment(id=V4), Code.MISSING_TS),
    ("id of the year 10889", payment(id="ffffffff-ffff-7fff-bfff-ffffffffffff"), Code.IN_FUTURE),
    ("ts is not the id's", payment(ts="2026-01-01T00:00:00Z"), Code.ID_TIME_MISMATCH),
    ("too late", payment(id=_soon(days=-8)), Code.TOO_LATE),
    ("in the future", payment(id=_soon(hours=1)), Code.IN_FUTURE),
    ("year 0", _ts("0000-01-01T00:00:00Z"), Code.INVALID_TIME),
    ("year 1, before it", _ts("0001-01-01T00:00:00+01:00"), Code.INVALID_TIME),
    ("year 1", _ts("0001-01-01T00:00:00Z"), Code.TOO_LATE),
    ("year 9999", _ts("9999-12-31T23:59:59.999999Z"), Code.IN_FUTURE),
    ("year 9999, after it", _ts("9999-12-31T23:59:59-01:00"), Code.INVALID_TIME),
    ("year 99999", _ts("99999-01-01T00:00:00Z"), Code.INVALID_TIME),
    ("infinity", _ts("infinity"), Code.INVALID_TIME),
    ("leap second", _ts("2026-06-30T23:59:60Z"), Code.INVALID_TIME),
    ("30 February", _ts("2026-02-30T00:00:00Z"), Code.INVALID_TIME),
    ("no offset", _ts("2026-06-30T23:59:59"), Code.INVALID_TIME),
    ("a thousand digits", _ts(f"2020-06-30T23:59:59.{'1' * 1000}Z"), Code.TOO_LATE),
    ("ten thousand digits", _ts(f"2020-06-30T23:59:59.{'1' * 10_000}Z"), Code.INVALID_TIME),
    ("ts a number", _ts(1_700_000_000), Code.INVALID_TIME),
    ("data_as_of", api_request(data_as_of="yesterday"), Code.INVALID_TIME),
    ("2^63", payment(amount=2**63), Code.INVALID_AMOUNT),
    ("2^63, text", payment(amount=str(2**63)), Code.INVALID_AMOUNT),
    ("2^64", payment(amount=2**64), Code.INVALID_AMOUNT),
    ("10^100", payment(amount=10**100), Code.INVALID_AMOUNT),
    ("negative", payment(amount=-1), Code.INVALID_AMOUNT),
    ("negative, text", payment(amount="-1"), Code.INVALID_AMOUNT),
    ("fraction", payment(amount=1.5), Code.INVALID_AMOUNT),
    ("fraction of nothing", payment(amount=1.0), Code.INVALID_AMOUNT),
    ("exponent, text", payment(amount="1e3"), Code.INVALID_AMOUNT),
    ("leading zeros", payment(amount="007"), Code.INVALID_AMOUNT),
    ("empty text", payment(amount=""), Code.INVALID_AMOUNT),
    ("blank", payment(amount=" 1"), Code.INVALID_AMOUNT),
    ("newline", payment(amount="1\n"), Code.INVALID_AMOUNT),
    ("plus", payment(amount="+1"), Code.INVALID_AMOUNT),
    ("Arabic digits", payment(amount="١٢"), Code.INVALID_AMOUNT),
    ("true", payment(amount=True), Code.INVALID_AMOUNT),
    ("null", payment(amount=None), Code.INVALID_AMOUNT),
    ("no amount", payment(amount=...), Code.MISSING_FIELD),
    ("a million digits", payment(amount="9" * 100_000), Code.INVALID_AMOUNT),
    ("balance of 2^63", balance(amount=2**63), Code.INVALID_AMOUNT),
    ("queue, balance of 2^63", queue(balance=2**63), Code.INVALID_AMOUNT),
    ("queue, balance of 2^63, text", queue(balance=str(2**63)), Code.INVALID_AMOUNT),
    ("queue, balance negative", queue(balance=-1), Code.INVALID_AMOUNT),
    ("queue, balance a fraction", queue(balance=0.5), Code.INVALID_AMOUNT),
    ("queue, balance an exponent", queue(balance="1e3"), Code.INVALID_AMOUNT),
    ("queue, no request_id", queue(request_id=...), Code.MISSING_FIELD),
    ("queue, request_id null", queue(request_id=None), Code.INVALID_FIELD),
    ("queue, no agent", queue(agent=...), Code.MISSING_FIELD),
    ("queue, no state", queue(state=...), Code.MISSING_FIELD),
    ("queue, state", queue(state="lost"), Code.INVALID_FIELD),
    ("queue, reason", queue(reason="mood"), Code.INVALID_FIELD),
    ("queue, priority NaN, text", queue(priority_score="NaN"), Code.INVALID_FIELD),
    ("queue, priority true", queue(priority_score=True), Code.INVALID_FIELD),
    ("queue, priority of 400 digits", queue(priority_score=10**400), Code.INVALID_FIELD),
    ("queue, freshness negative", queue(freshness_s=-1), Code.INVALID_FIELD),
    ("queue, freshness a fraction", queue(freshness_s=0.5), Code.INVALID_FIELD),
    ("queue, freshness of 2^63", queue(freshness_s=2**63), Code.INVALID_FIELD),
    ("queue, unknown asset", queue(asset="DOGE"), Code.UNKNOWN_ASSET),
    ("queue, origin", queue(origin="collector"), Code.INVALID_FIELD),
    ("queue, unknown member", queue(wallet="1" * 32), Code.UNKNOWN_FIELD),
    ("NUL in a name", payment(agent="a\0b"), Code.INVALID_FIELD),
    ("NUL in text", payment(failure_reason="\0"), Code.INVALID_FIELD),
    ("NUL in metadata", payment(metadata={"a": ["\0"]}), Code.INVALID_FIELD),
    ("NUL in a member of metadata", payment(metadata={"\0": 1}), Code.INVALID_FIELD),
    ("half a surrogate pair", payment(failure_reason="\ud800"), Code.INVALID_FIELD),
    ("the other half", payment(metadata={"a": "\udc00\ud800"}), Code.INVALID_FIELD),
    ("unknown member", payment(ammount="1"), Code.UNKNOWN_FIELD),
    ("member of another type", audit(amount="1"), Code.UNKNOWN_FIELD),
    ("very long unknown member", payment(**{"x" * 10_000: 1}), Code.UNKNOWN_FIELD),
    ("no agent", payment(agent=...), Code.MISSING_FIELD),
    ("unknown agent", payment(agent="nobody"), Code.UNKNOWN_AGENT),
    ("agent too long", payment(agent="a" * 101), Code.INVALID_FIELD),
    ("agent empty", payment(agent=""), Code.INVALID_FIELD),
    ("status", payment(status="paid"), Code.INVALID_FIELD),
    ("status, very long", payment(status="p" * 10_000), Code.INVALID_FIELD),
    ("slot of 2^63", payment(slot=2**63), Code.INVALID_FIELD),
    ("slot negative", payment(slot=-1), Code.INVALID_FIELD),
    ("retry_count of 2^15", payment(retry_count=2**15), Code.INVALID_FIELD),
    ("confirmations of 2^31", payment(confirmations=2**31), Code.INVALID_FIELD),
    ("latency a float", api_request(latency_ms=1.5), Code.INVALID_FIELD),
    ("paid a number", api_request(paid=1), Code.INVALID_FIELD),
    ("attempt 0", api_request(attempt=0), Code.INVALID_FIELD),
    ("attempt after the last", api_request(attempt=5), Code.INVALID_FIELD),
    ("attempt after its own last", api_request(attempt=2, max_retries=0), Code.INVALID_FIELD),
    ("digest", api_request(request_digest="ab" * 31), Code.INVALID_FIELD),
    ("digest with a blank", api_request(request_digest="ab" * 31 + " a"), Code.INVALID_FIELD),
    ("audit type", audit(event_type="exploded"), Code.INVALID_FIELD),
    ("audit type of one's own, newline", audit(event_type="x.a\n"), Code.INVALID_FIELD),
    ("severity", audit(severity="bad"), Code.INVALID_FIELD),
    ("wallet", payment(wallet="0x1234"), Code.INVALID_ADDRESS),
    ("wallet too long", payment(wallet="1" * 44), Code.INVALID_ADDRESS),
    ("pay_to", payment(pay_to="I" * 32), Code.INVALID_ADDRESS),
    ("signature", payment(signature="1" * 87), Code.INVALID_ADDRESS),
    ("network", payment(network="eip155:8453"), Code.INVALID_FIELD),
    ("asset", payment(asset="usdc"), Code.UNKNOWN_ASSET),
    ("asset, with a new wallet", payment(asset="usdc", wallet=address()), Code.UNKNOWN_ASSET),
    (
        "signature, with a new wallet and mint",
        payment(signature="1", asset=address(), wallet=address()),
        Code.INVALID_ADDRESS,
    ),
    (
        "metadata, with a new wallet and mint",
        payment(metadata=5, asset=address(), wallet=address()),
        Code.INVALID_FIELD,
    ),
    ("metadata a list", payment(metadata=[1]), Code.INVALID_FIELD),
    ("metadata a text", payment(metadata="{}"), Code.INVALID_FIELD),
    ("metadata too large", payment(metadata={"a": "b" * 8192}), Code.INVALID_FIELD),
    ("metadata too deep", payment(metadata={"a": json.loads("[" * 20 + "]" * 20)}), Code.INVALID_FIELD),
    ("origin", payment(origin="chain"), Code.INVALID_FIELD),
]


async def test_a_wrong_event_is_refused_alone_and_says_why(client, counts):
    before = await counts()
    for name, event, code in EVENTS:
        answer = await send(client, event)
        (refused,) = answer["rejected"]
        assert (answer["accepted"], refused["code"]) == (0, code.value), (name, refused)
        assert 10 < len(refused["message"]) < 350, name
    assert await counts() == before
    together = await send(client, *(event for _, event, _ in EVENTS), audit())
    assert together["accepted"] == 1
    assert [one["code"] for one in together["rejected"]] == [code.value for _, _, code in EVENTS]


RAW = [
    ("amount twice", lines(payment()).replace("}", ', "amount": "9"}'), Code.MALFORMED),
    ("amount twice, spaced", lines(payment()).replace("}", ', "amount" : "9"}'), Code.MALFORMED),
    ("amount twice, escaped", lines(payment()).replace("}", ', "\\u0061mount": "9"}'), Code.MALFORMED),
    (
        "amount twice, hidden by an escaped colon",
        lines(payment(failure_reason="a")).replace('"a"', '"\\u003a"').replace("}", ', "amount": "9"}'),
        Code.MALFORMED,
    ),
    ("amount twice, hidden by a null", lines(payment(slot=None)).replace("}", ', "amount": "9"}'), Code.MALFORMED),
    ("digest with a blank", lines(api_request(request_digest="ab" * 31 + " a")), Code.INVALID_FIELD),
    ("twice within metadata", lines(payment(metadata={})).replace("{}", '{"a": 1, "a": 2}'), Code.MALFORMED),
    ("amount with an exponent", lines(payment(amount=17)).replace(" 17", " 1e3"), Code.INVALID_AMOUNT),
    ("amount a wide exponent", lines(payment(amount=17)).replace(" 17", " 1e400000"), Code.INVALID_AMOUNT),
    ("priority NaN", lines(queue(priority_score=17)).replace(" 17", " NaN"), Code.MALFORMED),
    ("priority Infinity", lines(queue(priority_score=17)).replace(" 17", " -Infinity"), Code.MALFORMED),
    ("priority 1e400", lines(queue(priority_score=17)).replace(" 17", " 1e400"), Code.INVALID_FIELD),
    ("priority -1e400", lines(queue(priority_score=17)).replace(" 17", " -1e400"), Code.INVALID_FIELD),
    ("freshness with an exponent", lines(queue(freshness_s=17)).replace(" 17", " 1e400"), Code.INVALID_FIELD),
    ("amount NaN", lines(payment(amount=17)).replace(" 17", " NaN"), Code.MALFORMED),
    ("slot of 5,000 digits", lines(payment(slot=17)).replace(" 17", " " + "9" * 5000), Code.INVALID_FIELD),
    (
        "metadata with a wide exponent",
        lines(payment(metadata=17)).replace(" 17", '{"a": 1e400000}'),
        Code.INVALID_FIELD,
    ),
    ("metadata with a tiny number", lines(payment(metadata=17)).replace(" 17", '{"a": 1e-99999}'), Code.INVALID_FIELD),
    (
        "metadata with 5,000 digits",
        lines(payment(metadata=17)).replace(" 17", f'{{"a": {"9" * 5000}}}'),
        Code.INVALID_FIELD,
    ),
    (
        "metadata 3,000 deep",
        lines(payment(metadata=17)).replace(" 17", '{"a":' * 1500 + "1" + "}" * 1500),
        Code.MALFORMED,
    ),
    ("unclosed", '{"type": "payment"', Code.MALFORMED),
    ("deep", "[" * 100_000, Code.MALFORMED),
    ("a control character", '{"type": "pay\x01ment"}', Code.MALFORMED),
    ("a literal backslash is no NUL", lines(audit(entity_id="\\u0000")), None),
]


async def test_a_wrong_line_is_refused_alone(client):
    for name, line, code in RAW:
        answer = (await send_raw(client, line + "\n" + lines(audit()), "application/x-ndjson")).json()
        assert answer["accepted"] == (1 if code else 2), (name, answer)
        assert code is None or rejection(answer) == code.value, (name, answer)


async def test_a_wrong_event_of_an_array_is_refused_alone(client):
    for name, event, code in RAW:
        if name in ("unclosed", "a control character") or any(word in name for word in ("NaN", "Infinity", "deep")):
            continue  # the array cannot be read as a whole
        answer = (await send_raw(client, f"[{json.dumps(audit())}, {event}, {json.dumps(payment())}]")).json()
        assert answer["accepted"] == (2 if code else 3), (name, answer)
        assert code is None or rejection(answer) == code.value, (name, answer)


async def test_two_events_on_a_line_and_one_on_two_lines_are_refused(client):
    one, two = json.dumps(audit()), json.dumps(payment())
    for body in (f"{one} {two}", one.replace(",", ",\n", 1)):
        answer = (await send_raw(client, body, "application/x-ndjson")).json()
        assert answer["accepted"] == 0
        assert {one["code"] for one in answer["rejected"]} == {"malformed"}


async def test_a_line_that_is_not_utf8_is_refused_alone(client):
    body = lines(audit()).encode() + b'\n{"type": "audit", "entity_id": "\xff"}\n' + lines(audit()).encode()
    answer = (await send_raw(client, body, "application/x-ndjson")).json()
    assert (answer["accepted"], rejection(answer)) == (2, "malformed")


async def test_half_a_surrogate_pair_does_not_sink_its_array(client):
    answer = await send(client, audit(), audit(entity_id="\ud83d"), audit(entity_id="\ud83d\ude00 \\ud83d"))
    assert (answer["accepted"], rejection(answer)) == (2, "invalid_field")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = sorted({name for event in EVENT_TYPES.values() for name in event.__struct_fields__} | {"type", "x"})
MANGLED = st.builds(
    lambda make, name, value: make(**{name: value}),
    st.sampled_from((payment, api_request, audit, queue, balance)),
    st.sampled_from(MEMBERS),
    JSON_VALUES,
)
FUZZ = hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(events=st.lists(MANGLED | JSON_VALUES, max_size=6))
async def test_any_batch_is_accounted_for(client, events):
    response = await send_raw(client, json.dumps(events))
    if response.status_code == 400:  # Python writes NaN and Infinity, which are no JSON
        assert response.json()["code"] == "not_json"
        return
    assert response.status_code == 200
    answer = response.json()
    assert answer["accepted"] + answer["duplicates"] + len(answer["rejected"]) == len(events)


@FUZZ
@given(
    body=st.binary(max_size=200) | st.text(st.characters(codec="utf-8")).map(str.encode),
    kind=st.sampled_from(("application/json", "application/x-ndjson")),
    encoding=st.sampled_from(("identity", "gzip", "zstd")),
)
async def test_any_bytes_get_an_answer_below_500(client, body, kind, encoding):
    response = await send_raw(client, body, kind, **{"Content-Encoding": encoding})
    assert response.status_code in (200, 400, 422)
    assert response.status_code != 200 or response.json()["accepted"] == 0


async def test_events_at_the_edges_are_accepted(client):
    edges = [
        payment(id=new_id(7 * 86400 - 60)),
        payment(id=_soon(minutes=4)),
        payment(amount=0),
        payment(amount=str(2**63 - 1)),
        payment(id=V4, ts=datetime.now(UTC).isoformat()),
        payment(
            id="6b1f1b2e7c554d0e9a520d9f6f0e8f12",
            ts=datetime.now(UTC).strftime("%Y-%m-%dt%H:%M:%S." + "9" * 1000 + "z"),
        ),
        audit(event_type="x.my-own_thing.1", agent=None),
        api_request(attempt=4, max_retries=3, response_status=599, request_digest="AB" * 32),
        payment(metadata=None, slot=None, wallet=None),
        queue(priority_score=-1.7976931348623157e308, freshness_s=0),
        queue(priority_score=5e-324, reason="rpc", asset=address(), balance=0),
        payment(metadata={"a": {"b": [{"c": "\u00e9\U0001f600"}]}}, failure_reason=""),
    ]
    answer = await send(client, *edges)
    assert (answer["accepted"], answer["rejected"]) == (len(edges), [])


@pytest.mark.parametrize("separator", ["\n", ","])
async def test_bytes_that_are_no_text_sink_only_their_event(client, separator):
    """Inside an object that is decoded later, and where an explicit null makes the whole body suspicious."""
    broken = json.dumps(payment(slot=None, metadata={"a": "X"})).encode().replace(b"X", b"\xe8\x28")
    whole = json.dumps(payment()).encode()
    body = separator.encode().join([broken, whole])
    if separator == ",":
        answer = (await send_raw(client, b"[" + body + b"]")).json()
    else:
        answer = (await send_raw(client, body, "application/x-ndjson")).json()
    assert (answer["accepted"], [one["code"] for one in answer["rejected"]]) == (1, ["malformed"])
