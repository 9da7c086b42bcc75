"""Parameters that nobody should send: an answer below 500, always, and one that says what is allowed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.reads import cursors, ranges
from api.reads.answers import _binding
from api.reads.lists import PAYMENTS
from api.reads.questions import PaymentsQuestion
from store.errors import InvalidValue
from store.readers.positions import FactPosition, PaymentsBucketPosition, Window
from tests.api.test_reads_tools import close_site, make_site
from tests.store.world import payment

PATHS = (
    "/v1/agents",
    "/v1/balances",
    "/v1/balances/history",
    "/v1/payments",
    "/v1/requests",
    "/v1/audit-events",
    "/v1/payments/hourly",
    "/v1/requests/hourly",
    "/v1/breakers",
    "/v1/audit-trail",
    "/v1/queue",
    "/v1/sessions",
    "/v1/runway",
    "/v1/spend",
    "/v1/retry-health",
)
OF_PRESENT = ("/v1/agents", "/v1/balances", "/v1/sessions", "/v1/runway")
OF_TIME = tuple(path for path in PATHS if path not in OF_PRESENT)


@pytest_asyncio.fixture
async def site(settings, deadlines, edition):
    made = await make_site(settings, deadlines, edition)
    await made.write(payments=[payment(made.world) for _ in range(3)])
    yield made
    await close_site(made)


BAD_TIMES = (
    "0000-01-01T00:00:00Z",
    "99999-01-01T00:00:00Z",
    "infinity",
    "-infinity",
    "now",
    "",
    "2026-02-30T00:00:00Z",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-01-01T24:00:01Z",
    "2026-01-01T00:00:00+99:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "1767225600",
    "2026-01-01T00:00:00+00:00'; DROP TABLE tollwatch.payments; --",
    "٢٠٢٦-01-01T00:00:00Z",
    "2026-01-01T00:00:00\0Z",
)


REFUSED = (
    ("agent-0, agent-1", "/v1/payments", {"agent": "nobody"}),
    ("CASH, SOL, USDC", "/v1/payments", {"asset": "DOGE"}),
    ("settled", "/v1/payments", {"status": "paid"}),
    ("chain", "/v1/payments", {"origin": "me"}),
    ("skipped_open", "/v1/requests", {"outcome": "paid"}),
    ("half_open", "/v1/breakers", {"state": "ajar"}),
    ("critical", "/v1/audit-events", {"severity": "bad"}),
    ("'1d'", "/v1/balances/history", {"bucket": "1w"}),
    ("'1d'", "/v1/spend", {"bucket": "1w"}),
    ("'total'", "/v1/retry-health", {"bucket": "1d"}),
    ("bucket", "/v1/balances/history", {"bucket": "1h", "status": "low"}),
    ("bucket", "/v1/balances/history", {"bucket": "1d", "status": "low"}),
    ("outcome", "/v1/requests/hourly", {"quantiles": "true", "group_by": "agent,outcome"}),
    ("outcome", "/v1/requests/hourly", {"quantiles": "true", "outcome": "ok"}),
    ("history", "/v1/queue", {"state": "queued"}),
    ("dropped", "/v1/queue", {"state": "lost", "history": "true"}),
    ("breaker", "/v1/queue", {"reason": "whim"}),
    ("revoked", "/v1/sessions", {"status": "open"}),
    ("queue", "/v1/audit-trail", {"kind": "gossip"}),
    ("agent, service", "/v1/retry-health", {"group_by": "asset"}),
    ("agent, asset, service", "/v1/spend", {"group_by": "origin"}),
    ("nobody", "/v1/runway", {"agent": "nobody"}),
    ("nobody", "/v1/audit-trail", {"agent": "nobody"}),
    ("wallet", "/v1/sessions", {"wallet": "nobody"}),
)
"""What the refusal must name, the path, and the parameters."""


async def refused(client, path, **parameters):
    """The detail of a refusal."""
    answer = await client.get(path, params={name.removesuffix("_"): v for name, v in parameters.items()})
    assert 400 <= answer.status_code < 500, (path, parameters, answer.status_code)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


async def test_bad_times_and_pages_are_refused(site):
    async with site.client() as client:
        for bad in BAD_TIMES:
            for name in ("from_", "to"):
                await refused(client, "/v1/payments", **{name: bad})
        for path in OF_TIME:
            day = "2026-01-01T00:00:00Z"
            assert "before" in await refused(client, path, from_=day, to=day)
            assert "days" in await refused(client, path, from_="0001-01-01T00:00:00Z", to="9999-12-31T23:59:59Z")
            assert "early" in await refused(client, path, to="0001-01-01T00:00:00Z")
            assert "days" in await refused(client, path, from_="2024-01-01T00:00:00Z")
        for path in PATHS:
            for limit in ("0", "-1", "1001", "9" * 5000, "x", "1e9", ""):
                await refused(client, path, limit=limit)
            await refused(client, path, colour="red")
            for cursor in ("", "x", "é", "\0", "A" * 40_001, "====", "bnVsbA"):
                assert "cursor" in await refused(client, path, cursor=cursor)


async def test_bad_values_are_refused_with_what_is_allowed(site):
    async with site.client() as client:
        for word, path, parameters in REFUSED:
            assert word in await refused(client, path, **parameters), path
        for name in ("agent", "asset", "service", "payment_id", "signature", "duplicates"):
            await refused(client, "/v1/payments", **{name: "\0"})
            await refused(client, "/v1/payments", **{name: "x" * 3000})
        for path in ("/v1/agents/%00", "/v1/agents/" + "x" * 3000, "/v1/payments/00000000"):
            await refused(client, path)


async def test_a_cursor_is_good_for_its_own_list_and_parameters_alone(site):
    cursor = (await site.get("/v1/payments", limit=1)).json()["next"]
    assert (await site.get("/v1/payments", limit=2, cursor=cursor)).status_code == 200
    for path, parameters in {
        "/v1/payments": {"status": "settled"},
        "/v1/requests": {},
        "/v1/agents": {},
        "/v1/payments/hourly": {},
    }.items():
        assert (await site.get(path, cursor=cursor, **parameters)).status_code == 422, path
    for place in range(0, len(cursor), 5):
        changed = cursor[:place] + ("B" if cursor[place] == "A" else "A") + cursor[place + 1 :]
        assert (await site.get("/v1/payments", cursor=changed)).status_code == 422


async def test_a_forged_cursor_reaches_no_further_than_parameters_do(site):
    who = SimpleNamespace(caller=SimpleNamespace(project_id=site.world.project_id))
    binding = _binding(who, PAYMENTS, PaymentsQuestion())
    far = Window(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
    forged = cursors.encode(cursors.Cursor(window=far, position=FactPosition.first(far)), binding)
    assert "31 days" in (await site.get("/v1/payments", cursor=forged)).json()["detail"]
    for body in (
        b"null",
        b"[]",
        b'[["2026-01-01T00:00:00Z","2026-01-02T00:00:00Z"],["2026-01-01T00:00:00","x"]]',
        b"\xff",
    ):
        forged = base64.urlsafe_b64encode(cursors._digest(body, binding) + body).decode()
        assert (await site.get("/v1/payments", cursor=forged)).status_code == 422
    none = cursors.encode(cursors.Cursor(window=None, position=FactPosition.first(far)), binding)
    assert (await site.get("/v1/payments", cursor=none)).status_code == 422


names = st.sampled_from(
    [
        "from",
        "to",
        "limit",
        "cursor",
        "agent",
        "asset",
        "status",
        "origin",
        "service",
        "payment_id",
        "signature",
        "group_by",
        "bucket",
        "wallet",
        "state",
        "outcome",
        "severity",
        "duplicates",
        "component",
        "entity_id",
        "kind",
        "reason",
        "request_id",
        "history",
        "quantiles",
    ]
)
values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "agent-0",
            "USDC",
            "settled",
            "agent",
            "agent,asset",
            ",",
            "1h",
            "1d",
            "total",
            "queue",
            "true",
            "1",
            "null",
            "wallet-acme-0",
        ]
    ),
    st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat()),
    st.integers().map(str),
    st.uuids().map(str),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(path=st.sampled_from(PATHS), parameters=st.lists(st.tuples(names, values), max_size=4))
async def test_no_parameters_are_an_error_of_ours(site, path, parameters):
    async with site.client() as client:
        answer = await client.get(path, params=parameters)
    assert answer.status_code < 500, answer.text


@given(
    at=st.datetimes(timezones=st.just(UTC)),
    agent=st.integers(0, 2**31 - 1),
    service=st.text().filter(lambda text: "\0" not in text),
    binding=st.binary(),
)
def test_a_cursor_comes_back_as_it_went(at, agent, service, binding):
    window = Window(at, at)
    there = cursors.Cursor(window=window, position=PaymentsBucketPosition(at, agent, 1, service, "", ""))
    assert cursors.decode(cursors.encode(there, binding), PaymentsBucketPosition, binding) == there
    with pytest.raises(InvalidValue):
        cursors.decode(cursors.encode(there, binding), PaymentsBucketPosition, binding + b"x")


def test_positions_outside_the_columns_are_no_cursors():
    for agent, service in ((2**31, ""), (-1, ""), (1, "a\0b")):
        body = msgspec.json.encode((None, ("2026-01-01T00:00:00Z", agent, 1, service, "", "")))
        text = base64.urlsafe_b64encode(cursors._digest(body, b"") + body).decode()
        with pytest.raises(InvalidValue):
            cursors.decode(text, PaymentsBucketPosition, b"")


def test_ranges():
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    skew = timedelta(minutes=5)
    day = timedelta(days=1)
    assert ranges.window_of(None, None, now=now, skew=skew) == Window(now - day, now + skew)
    assert ranges.window_of(None, now, now=now, skew=skew) == Window(now - day, now)
    assert ranges.window_of(now - 2 * day, None, now=now, skew=skew) == Window(now - 2 * day, now + skew)
    ranges.check_width(Window(now - 31 * day, now + skew), ranges.RAW_RANGE, skew)
    with pytest.raises(InvalidValue, match="31 days"):
        ranges.check_width(Window(now - 31 * day, now + 2 * skew), ranges.RAW_RANGE, skew)
