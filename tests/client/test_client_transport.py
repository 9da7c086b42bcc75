"""The transports: what they see is told once and as it was; the agent's requests are as they would be without them."""

import asyncio
import base64
import gc
import gzip
import hashlib
import json

import httpx
import pytest
from tollwatch import (
    EXTENSION,
    About,
    AsyncTollwatchTransport,
    BreakerOpen,
    Call,
    CircuitBreaker,
    RetryPolicy,
    TollwatchTransport,
    base58,
    observe,
    retry,
    retry_async,
    x402,
)
from tollwatch.observer import MAX_WAITING_ALIKE

from tests.client.tools import Tollwatch, recorder_for

NETWORK = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
CASH = "CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH"
SELLER, FEE_PAYER, PAYER = (base58.encode(bytes([number]) * 32) for number in (7, 8, 9))
SIGNATURE = base58.encode(b"\x05" * 64)
URL = "https://user:pw@shop.example/v1/price?key=secret&n=1"


class Heard:
    """A Sink that keeps events as they would be sent."""

    def __init__(self):
        self.events, self.faults, self.skipped = [], [], []
        self._recorder = recorder_for(Tollwatch())
        self.new_id = self._recorder.new_id

    def record(self, event):
        item = event.encode(self.new_id(), "mine")
        self.events.append(json.loads(item.body))
        return item.id

    def fault(self, error):
        self.faults.append(error)

    def skip(self, reason):
        self.skipped.append(reason)

    def of(self, kind, *names):
        found = [event for event in self.events if event["type"] == kind]
        return [tuple(event.get(name) for name in names) for event in found] if names else found


@pytest.fixture
def heard():
    sink = Heard()
    yield sink
    assert sink.faults == []


def encoded(document):
    return base64.b64encode(json.dumps(document).encode()).decode()


def terms(memo="m1", *assets, version=2):
    name = "amount" if version == 2 else "maxAmountRequired"
    offers = [
        {
            "scheme": "exact", "network": NETWORK if version == 2 else "solana", "asset": asset, name: "1000", "payTo": SELLER,
            "maxTimeoutSeconds": 60, "extra": {"feePayer": FEE_PAYER, "memo": memo}, "resource": URL,
        }
        for asset in assets or (USDC,)
    ]  # fmt: skip
    return {"x402Version": version, "error": "payment required", "accepts": offers, "resource": {"url": URL}}


def transaction(*keys):
    """Wire bytes of a transaction that FEE_PAYER and PAYER sign, and that names these keys."""
    named = [base58.decode(key) for key in (FEE_PAYER, PAYER, *keys)]
    return bytes([2]) + bytes(128) + bytes([0x80, 2, 1, 1, len(named)]) + b"".join(named) + bytes(40)


def payment(document, at=0, version=2):
    offer = document["accepts"][at]
    payload = {"transaction": base64.b64encode(transaction(offer["asset"])).decode()}
    if version == 2:
        return {"PAYMENT-SIGNATURE": encoded({"x402Version": 2, "payload": payload, "accepted": offer})}
    return {"X-PAYMENT": encoded({"x402Version": 1, "scheme": "exact", "network": "solana", "payload": payload})}


def settled(success=True, reason=None, **more):
    return encoded(
        {"success": success, "errorReason": reason, "transaction": SIGNATURE, "network": NETWORK, "payer": PAYER} | more
    )


class Shop:
    """Asks for payment, then gives `paid` answers in turn, the last for ever."""

    def __init__(self, *paid, document=None, version=2):
        self.document = document or terms(version=version)
        self.version = version
        self.paid = list(paid) or [httpx.Response(200, text="goods", headers={"PAYMENT-RESPONSE": settled()})]
        self.seen = []

    def __call__(self, request):
        self.seen.append(request)
        if not {"payment-signature", "x-payment"} & set(request.headers):
            return self.challenge()
        answer = self.paid.pop(0) if len(self.paid) > 1 else self.paid[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def challenge(self):
        if self.version == 2:
            return streamed(402, b"{}", {"PAYMENT-REQUIRED": encoded(self.document)})
        return streamed(402, json.dumps(self.document).encode())


class Chunks(httpx.SyncByteStream):
    def __init__(self, *chunks):
        self.chunks, self.given, self.closed = chunks, 0, False

    def __iter__(self):
        for chunk in self.chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            self.given += 1
            yield chunk

    def close(self):
        self.closed = True


def streamed(status, body, headers=None):
    return httpx.Response(status, headers=headers, stream=Chunks(body))


def client_of(heard, shop, **options):
    return httpx.Client(transport=TollwatchTransport(heard, httpx.MockTransport(shop), **options))


def buy(http, shop, version=2, method="GET", **more):
    """As an agent without the SDK does: ask, sign, ask again."""
    asked = http.request(method, URL, **more)
    assert asked.status_code == 402
    return http.request(method, URL, headers=payment(shop.document, version=version), **more)


ATTEMPT = ("attempt", "outcome", "paid", "response_status", "error_type", "x402_version")


@pytest.mark.parametrize("version", [1, 2])
def test_challenge_and_payment_are_one_attempt(heard, version):
    header = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"
    shop = Shop(streamed(200, b"goods", {header: settled()}), version=version)
    with client_of(heard, shop) as http:
        assert buy(http, shop, version).text == "goods"
    assert heard.of("api_request", *ATTEMPT) == [(1, "ok", True, 200, None, version)]
    pending, end = heard.of("payment")
    (request,) = heard.of("api_request")
    assert (pending["status"], end["status"]) == ("pending", "settled")
    assert pending["payment_id"] == end["payment_id"] == request["payment_id"]
    assert pending["request_id"] == end["request_id"] == request["request_id"]
    expected = {
        "amount": "1000", "asset": USDC, "network": NETWORK, "pay_to": SELLER, "facilitator": FEE_PAYER, "wallet": PAYER,
        "x402_payment_id": "m1", "service": "https://shop.example", "resource": "https://shop.example/v1/price",
    }  # fmt: skip
    assert expected.items() <= end.items()
    assert (end["signature"], "signature" in pending) == (SIGNATURE, False)
    assert end["facilitator_response"]["payer"] == PAYER
    assert request["response_digest"] == hashlib.sha256(b"goods").hexdigest()
    assert request["response_bytes"] == 5
    assert request["payment_required"]["accepts"][0]["payTo"] == SELLER


def test_no_secret_is_told(heard):
    shop = Shop()
    with client_of(heard, shop) as http:
        buy(http, shop)
    said = json.dumps(heard.events)
    for secret in (
        "secret",
        "pw@",
        "user:",
        shop.seen[-1].headers["payment-signature"],
        base64.b64encode(transaction(USDC)).decode(),
    ):
        assert secret not in said


def test_the_query_is_kept_where_it_is_asked_for(heard):
    shop = Shop()
    with client_of(heard, shop, keep_query=True) as http:
        buy(http, shop)
    assert heard.of("api_request", "resource") == [("https://shop.example/v1/price?key=secret&n=1",)]


@pytest.mark.parametrize(
    ("answer", "status", "error_type", "attempt"),
    [
        (streamed(402, b"", {"PAYMENT-RESPONSE": settled(False, "transaction_failed")}), "failed", "rejected", ("failed", 402)),
        (streamed(402, b"", {"PAYMENT-RESPONSE": settled(False, "settlement_pending")}), "unknown", "timeout", ("failed", 402)),
        (streamed(402, b"", {"PAYMENT-REQUIRED": encoded(terms() | {"error": "insufficient_funds"})}), "failed", "insufficient_funds", ("failed", 402)),
        (streamed(402, b"nonsense"), "failed", "rejected", ("failed", 402)),
        (streamed(500, b"boom"), "unknown", "upstream_error", ("failed", 500)),
        (streamed(200, b"goods"), "unknown", "other", ("ok", 200)),
        (streamed(200, b"goods", {"PAYMENT-RESPONSE": "????"}), "unknown", "other", ("ok", 200)),
        (streamed(503, b"", {"PAYMENT-RESPONSE": settled()}), "settled", None, ("failed", 503)),
        (httpx.ReadTimeout("slow"), "unknown", "timeout", ("failed", None)),
        (httpx.ReadError("cut"), "unknown", "network_failure", ("failed", None)),
        (httpx.ConnectTimeout("never sent"), "failed", "timeout", ("failed", None)),
        (httpx.ConnectError("never sent"), "failed", "network_failure", ("failed", None)),
        (KeyboardInterrupt(), "unknown", "other", ("failed", None)),
    ],
    ids=str,
)  # fmt: skip
def test_what_becomes_of_a_payment(heard, answer, status, error_type, attempt):
    shop = Shop(answer)
    with client_of(heard, shop) as http:
        if isinstance(answer, BaseException):
            with pytest.raises(type(answer)):
                buy(http, shop)
        else:
            buy(http, shop)
    assert heard.of("payment", "status", "error_type") == [("pending", None), (status, error_type)]
    assert heard.of("api_request", "outcome", "response_status") == [attempt]
    failures = heard.of("audit", "event_type", "severity")
    assert failures == (
        [] if status == "settled" else [("payment_failure", "error" if status == "unknown" else "warning")]
    )


def test_a_refusal_of_version_1_is_in_its_body(heard):
    shop = Shop(streamed(402, json.dumps(terms(version=1) | {"error": "insufficient_funds"}).encode()), version=1)
    with client_of(heard, shop) as http:
        buy(http, shop, version=1)
    assert heard.of("payment", "status", "error_type") == [("pending", None), ("failed", "insufficient_funds")]
    assert heard.of("api_request", *ATTEMPT) == [(1, "failed", False, 402, "insufficient_funds", 1)]


def test_a_compressed_challenge_of_version_1_is_understood(heard):
    body = gzip.compress(json.dumps(terms(version=1)).encode())
    shop = Shop(version=1)
    shop.challenge = lambda: streamed(402, body, {"content-encoding": "gzip"})
    with client_of(heard, shop) as http:
        buy(http, shop, version=1)
    assert [one[0] for one in heard.of("payment", "status")] == ["pending", "settled"]


def test_in_version_1_the_transaction_tells_which_asset_is_paid(heard):
    document = terms("m", USDC, CASH, version=1)
    shop = Shop(document=document, version=1)
    with client_of(heard, shop) as http:
        http.get(URL)
        http.get(URL, headers=payment(document, at=1, version=1))
    assert {event["asset"] for event in heard.of("payment")} == {CASH}


def test_two_challenges_of_the_same_url_are_told_apart_by_what_is_paid(heard):
    shop, documents = Shop(), [terms("a"), terms("b")]
    with client_of(heard, shop) as http:
        for document in documents:
            shop.document = document
            http.get(URL)
        for document in reversed(documents):
            http.get(URL, headers=payment(document))
    told = heard.of("api_request", "payment_required", "payment_id")
    memo_of = {event["payment_id"]: event["x402_payment_id"] for event in heard.of("payment")}
    assert [(one["accepts"][0]["extra"]["memo"], memo_of[ident]) for one, ident in told] == [("b", "b"), ("a", "a")]


def test_another_body_is_another_request(heard):
    shop = Shop()
    with client_of(heard, shop) as http:
        http.post(URL, content=b"one")
        http.post(URL, content=b"two", headers=payment(shop.document))
    paid, unpaid = heard.of("api_request", "outcome", "request_digest", "method")
    assert paid == ("ok", hashlib.sha256(b"two").hexdigest(), "POST")
    assert unpaid == ("payment_required", hashlib.sha256(b"one").hexdigest(), "POST")


def test_a_challenge_that_nobody_pays_is_told_when_the_client_closes(heard):
    shop = Shop()
    with client_of(heard, shop) as http:
        http.get(URL)
        assert heard.events == []
    assert heard.of("api_request", *ATTEMPT) == [(1, "payment_required", False, 402, None, 2)]


def test_challenges_are_held_within_bounds(heard, monkeypatch):
    monkeypatch.setattr("tollwatch.observer.MAX_WAITING", 3)
    shop = Shop()
    http = client_of(heard, shop)
    for number in range(5):
        http.get(f"https://shop.example/{number}")
    assert heard.of("api_request", "resource") == [("https://shop.example/0",), ("https://shop.example/1",)]
    monkeypatch.setattr("tollwatch.observer.LAPSE_S", -1.0)
    http.get("https://shop.example/5")
    http.close()
    assert len(heard.of("api_request")) == 6


def test_challenges_alike_are_held_within_bounds(heard):
    shop = Shop()
    with client_of(heard, shop) as http:
        for _ in range(MAX_WAITING_ALIKE + 2):
            http.get(URL)
        assert len(heard.of("api_request")) == 2
    assert len(heard.of("api_request")) == MAX_WAITING_ALIKE + 2


def test_the_same_payment_sent_again_is_one_payment(heard):
    shop = Shop(httpx.ReadTimeout("slow"), streamed(200, b"", {"PAYMENT-RESPONSE": settled()}))
    with client_of(heard, shop) as http:
        with pytest.raises(httpx.ReadTimeout):
            buy(http, shop)
        http.get(URL, headers=payment(shop.document))
    assert [one[0] for one in heard.of("payment", "status")] == ["pending", "unknown", "retrying", "settled"]
    assert len({event["payment_id"] for event in heard.of("payment")}) == 1
    assert heard.of("api_request", "attempt", "outcome") == [(1, "failed"), (2, "ok")]
    assert len({event["request_id"] for event in heard.events if "request_id" in event}) == 1


def test_what_is_not_x402_is_nobodys_business_until_its_origin_asks_for_money(heard):
    answers = [
        streamed(200, b"free"),
        streamed(503, b""),
        streamed(402, b"", {"PAYMENT-REQUIRED": encoded(terms())}),
        streamed(503, b""),
    ]
    with client_of(heard, lambda _: answers.pop(0)) as http:
        for _ in range(4):
            http.get("https://shop.example/a")
    assert heard.of("api_request", "outcome", "error_type") == [
        ("failed", "upstream_error"),
        ("payment_required", None),
    ]
    with client_of(heard, lambda _: streamed(503, b""), services=["https://other.example/x"]) as http:
        http.get("https://other.example/a")
    assert heard.of("api_request", "service")[-1] == ("https://other.example",)


def test_a_payment_on_another_network_is_counted_and_the_request_told(heard):
    document = terms()
    document["accepts"][0]["network"] = "eip155:8453"
    shop = Shop(document=document)
    with client_of(heard, shop) as http:
        buy(http, shop)
    assert heard.of("payment") == []
    assert heard.skipped == ["payment_on_another_network"] * 2
    assert heard.of("api_request", "outcome", "paid", "payment_id") == [("ok", True, None)]


def test_a_payment_without_known_terms_is_counted(heard):
    shop = Shop(version=1)
    with client_of(heard, shop) as http:
        http.get(URL, headers=payment(shop.document, version=1))
    assert heard.skipped == ["payment_without_terms"]
    assert heard.of("api_request", "outcome", "x402_version") == [("ok", 1)]


@pytest.mark.parametrize(
    "header", ["", "?", "AAAA", encoded([1]), encoded({"accepted": 7, "payload": 3}), "é" * 10, "A" * 100_000]
)
def test_headers_that_are_nonsense_disturb_nobody(heard, header):
    answer = httpx.Response(402, headers={"PAYMENT-REQUIRED": header.encode(), "PAYMENT-RESPONSE": header.encode()})
    with client_of(heard, lambda _: answer) as http:
        http.get(URL, headers={"PAYMENT-SIGNATURE": header.encode()})
        http.get(URL, headers={"X-PAYMENT": header.encode()})


def test_a_broken_sink_is_the_sinks_trouble():
    class Broken(Heard):
        def record(self, event):
            raise RuntimeError("no")

        def new_id(self):
            raise RuntimeError("no")

    sink = Broken()
    sink.new_id = lambda: 1 / 0
    shop = Shop()
    with client_of(sink, shop) as http:
        assert buy(http, shop).text == "goods"
    assert sink.faults


def test_the_body_is_neither_read_ahead_nor_held_back(heard):
    chunks = Chunks(b"one", b"two", b"three")
    answers = [Shop().challenge(), httpx.Response(200, stream=chunks, headers={"PAYMENT-RESPONSE": settled()})]
    with client_of(heard, lambda _: answers.pop(0)) as http:
        http.get(URL)
        with http.stream("GET", URL, headers=payment(terms())) as response:
            assert chunks.given == 0
            assert [one[0] for one in heard.of("payment", "status")] == ["pending", "settled"]
            parts = response.iter_raw()
            assert next(parts) == b"one"
            assert chunks.given == 1
            assert heard.of("api_request") == []
        assert chunks.closed
    assert heard.of("api_request", "outcome", "response_digest", "response_bytes") == [("ok", None, None)]


def test_a_body_that_breaks_off_is_a_failed_attempt(heard):
    answers = [
        Shop().challenge(),
        httpx.Response(200, stream=Chunks(b"one", httpx.ReadError("cut")), headers={"PAYMENT-RESPONSE": settled()}),
    ]
    with client_of(heard, lambda _: answers.pop(0)) as http:
        http.get(URL)
        with pytest.raises(httpx.ReadError):
            http.get(URL, headers=payment(terms()))
    assert heard.of("api_request", "outcome", "error_type", "paid") == [("failed", "network_failure", True)]


def test_an_answer_that_nobody_reads_or_closes_is_told_all_the_same(heard):
    answers = [Shop().challenge(), streamed(200, b"goods", {"PAYMENT-RESPONSE": settled()})]
    http = client_of(heard, lambda _: answers.pop(0))
    http.get(URL)
    response = http.send(http.build_request("GET", URL, headers=payment(terms())), stream=True)
    assert heard.of("api_request") == []
    del response
    gc.collect()
    assert heard.of("api_request", "outcome") == [("ok",)]
    http.close()


async def test_async_clients_too_and_an_agent_that_is_cancelled(heard):
    hang, paid = asyncio.Event(), asyncio.Event()

    async def shop(request):
        if "payment-signature" not in request.headers:
            return httpx.Response(402, headers={"PAYMENT-REQUIRED": encoded(terms())})
        paid.set()
        await hang.wait()
        raise AssertionError("not reached")

    transport = AsyncTollwatchTransport(
        heard, httpx.MockTransport(shop), about=About(wallet=PAYER, endpoint_type="price")
    )
    async with httpx.AsyncClient(transport=transport) as http:
        await http.get(URL)
        paying = asyncio.create_task(http.get(URL, headers=payment(terms())))
        await paid.wait()
        paying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await paying
    assert heard.of("payment", "status", "error_type") == [("pending", None), ("unknown", "other")]
    assert heard.of("api_request", "outcome", "endpoint_type", "wallet") == [("failed", "price", PAYER)]


def test_a_loop_of_the_agents_own_is_seen_as_retries(heard):
    answers = [streamed(503, b""), httpx.ConnectError("no"), streamed(200, b"ok")]

    def shop(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with client_of(heard, shop) as http, Call(heard, About(max_retries=3, component="shop")) as call:
        for _ in range(3):
            try:
                if http.get(URL).is_success:
                    break
            except httpx.HTTPError:
                continue
    told = heard.of("api_request", "attempt", "outcome", "error_type", "component")
    assert told == [
        (1, "retrying", "upstream_error", "shop"), (2, "retrying", "network_failure", "shop"), (3, "ok", None, "shop"),
    ]  # fmt: skip
    assert {event["request_id"] for event in heard.events} == {call.request_id}
    assert heard.of("api_request")[0]["backoff_ms"] >= 0


def test_retries_are_told_and_never_pay_twice(heard):
    slept = []
    shop = Shop(
        streamed(402, b"", {"PAYMENT-RESPONSE": settled(False, "transaction_failed")}), httpx.ReadTimeout("slow")
    )
    with client_of(heard, shop) as http:

        def act(_):
            http.get(URL, extensions={EXTENSION: call})
            return http.get(
                URL, headers=payment(shop.document) | {"x": str(len(shop.seen))}, extensions={EXTENSION: call}
            )

        call = Call(heard, About(component="shop"))
        shop_memos = iter("abcdef")
        original = shop.challenge

        def challenge():
            shop.document = terms(next(shop_memos))
            return original()

        shop.challenge = challenge
        with pytest.raises(httpx.ReadTimeout):
            retry(call, act, RetryPolicy(max_retries=5), slept.append)
    assert heard.of("api_request", "attempt", "outcome", "error_type") == [
        (1, "retrying", "rejected"),
        (2, "failed", "timeout"),
    ]
    assert [one[0] for one in heard.of("payment", "status")] == ["pending", "failed", "pending", "unknown"]
    assert len(slept) == 1
    assert call.payments == 2


def test_retries_end_with_success_or_are_exhausted(heard):
    answers = [503, 503, 200, 503, 503, 503]
    with client_of(heard, lambda _: streamed(answers.pop(0), b"")) as http:
        for expected in (200, 503):
            call = Call(heard, About(component="shop"))
            with call:
                response = retry(call, lambda _: http.get(URL), RetryPolicy(max_retries=2), lambda _: None)
            assert response.status_code == expected
    assert [one[0] for one in heard.of("audit", "event_type")] == ["retry_success", "retry_exhausted"]
    assert [event["details"] for event in heard.of("audit")] == [
        {"attempts": 3, "payments": 0}, {"attempts": 3, "payments": 0, "error_type": "upstream_error"},
    ]  # fmt: skip
    assert [one[0] for one in heard.of("api_request", "outcome")] == [
        "retrying",
        "retrying",
        "ok",
        "retrying",
        "retrying",
        "failed",
    ]


async def test_retries_of_async_agents(heard):
    answers = [503, 200]
    slept = []

    async def shop(_):
        return httpx.Response(answers.pop(0))

    async def sleep(seconds):
        slept.append(seconds)

    async with httpx.AsyncClient(transport=AsyncTollwatchTransport(heard, httpx.MockTransport(shop))) as http:
        with Call(heard) as call:

            async def act(_):
                return await http.get(URL)

            assert (await retry_async(call, act, sleep=sleep)).status_code == 200
    assert 0.1 < slept[0] < 0.4
    assert heard.of("api_request", "attempt", "outcome") == [(1, "retrying"), (2, "ok")]


def test_a_breaker_opens_waits_probes_and_closes_and_says_so(heard):
    now = [0.0]
    breaker = CircuitBreaker(heard, "shop", failures_to_open=3, timeout_s=20, clock=lambda: now[0])
    for success in (False, False, True, False, False, False):
        assert breaker.admits()
        breaker.record(success=success)
    assert not breaker.admits()
    now[0] = 19.9
    assert not breaker.admits()
    now[0] = 20.0
    assert breaker.admits()
    assert not breaker.admits()  # one probe at a time
    breaker.record(success=False)
    assert not breaker.admits()
    now[0] = 40.0
    assert breaker.admits()
    breaker.record(success=True)
    assert breaker.admits()
    told = [one[0] for one in heard.of("audit", "event_type")]
    states = ["opened", "half_opened", "opened", "half_opened", "closed"]
    assert told == [f"breaker_{state}" for state in states]
    now[0] = 100.0
    for _ in range(3):
        breaker.record(success=False)
    now[0] = 120.0
    assert breaker.admits()  # a probe that is never heard of
    now[0] = 140.0
    assert breaker.admits()


def test_a_call_under_a_breaker_is_skipped_while_it_is_open(heard):
    now = [0.0]
    breaker = CircuitBreaker(heard, "shop", failures_to_open=1, timeout_s=5, clock=lambda: now[0])
    answers = [503, 200]
    with client_of(heard, lambda _: streamed(answers.pop(0), b"")) as http:
        with Call(heard, About(service="https://shop.example"), breaker=breaker):
            http.get(URL)
        with pytest.raises(BreakerOpen), Call(heard, About(service="https://shop.example"), breaker=breaker):
            raise AssertionError("not reached")
        now[0] = 5.0
        with Call(heard, About(service="https://shop.example"), breaker=breaker):
            http.get(URL)
    assert heard.of("api_request", "outcome", "breaker_state", "component") == [
        ("failed", "closed", "shop"), ("skipped_open", "open", "shop"), ("ok", "half_open", "shop"),
    ]  # fmt: skip
    assert breaker.state == "closed"


def test_a_client_made_already_can_be_observed(heard):
    http = httpx.Client(transport=httpx.MockTransport(shop := Shop()))
    observe(http, heard)
    buy(http, shop)
    http.close()
    assert [one[0] for one in heard.of("payment", "status")] == ["pending", "settled"]
    with pytest.raises(TypeError, match="transport"):
        observe(object(), heard)


def test_what_a_transaction_says_of_its_payer():
    assert x402.payer_of(transaction(USDC), FEE_PAYER) == PAYER
    assert x402.payer_of(transaction(USDC), None) is None
    for cut in range(0, 150, 7):
        x402.payer_of(transaction(USDC)[:cut], FEE_PAYER)
