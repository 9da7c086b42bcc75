from __future__ import annotations

import pytest

from collector.endpoints import EndpointPool, RestPolicy, labels
from collector.rpc_errors import EndpointTimeout, RateLimited, WrongChain

FAULT = EndpointTimeout("late")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pool(clock):
    return EndpointPool(["http://a/", "http://b/"], clock=clock, jitter=lambda: 0.0)


def test_labels_are_host_and_port_and_nothing_else():
    urls = ["https://user:pw@rpc.example/secret?api-key=1", "http://rpc.example:8899", "https://rpc.example/other"]
    assert labels([*urls, "http://[::1]:1/"]) == ["rpc.example", "rpc.example:8899", "rpc.example#2", "[::1]:1"]


def test_a_url_is_not_in_the_repr():
    (endpoint,) = EndpointPool(["https://rpc.example/secret"]).endpoints
    assert "secret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("failures", "fault", "jitter", "seconds"),
    [
        (1, FAULT, 0.0, 0.5),
        (1, FAULT, 1.0, 0.25),
        (2, FAULT, 0.0, 1.0),
        (100_000, FAULT, 0.0, 30.0),
        (1, RateLimited("x", retry_after=7.0), 0.0, 7.0),
        (1, RateLimited("x", retry_after=0.0), 0.0, 0.5),
        (1, RateLimited("x", retry_after=86400.0), 0.0, 60.0),
        (1, WrongChain("x"), 1.0, 300.0),
    ],
)
def test_how_long_an_endpoint_rests(failures, fault, jitter, seconds):
    assert RestPolicy().seconds(failures, fault, jitter) == seconds


def test_the_first_that_does_not_rest_is_chosen(pool, clock):
    first, second = pool.endpoints
    assert pool.choose() is first
    assert pool.has_other(first)

    pool.rest(first, FAULT, first.period)
    assert pool.choose() is second
    assert not pool.has_other(second)
    assert pool.rest_left(first) == 0.5

    clock.now += 0.5
    assert pool.choose() is first


def test_when_all_rest_the_one_that_is_back_first_is_chosen(pool):
    first, second = pool.endpoints
    pool.rest(first, RateLimited("x", retry_after=9.0), 0)
    pool.rest(second, FAULT, 0)
    assert pool.choose() is second


def test_calls_that_fail_together_are_one_failure(pool):
    first = pool.endpoints[0]
    for _ in range(4):
        pool.rest(first, FAULT, 0)
    assert first.failures == 1
    assert pool.rest_left(first) == 0.5


def test_a_late_answer_does_not_end_a_rest(pool):
    first = pool.endpoints[0]
    pool.rest(first, FAULT, 0)
    pool.restore(first, 0)
    assert first.failures == 1
    pool.restore(first, 1)
    assert first.failures == 0


def test_a_failure_asks_for_the_genesis_hash_again(pool):
    first = pool.endpoints[0]
    first.verified = True
    pool.rest(first, FAULT, 0)
    assert not first.verified


def test_a_node_cannot_echo_our_secrets():
    (endpoint,) = EndpointPool(["https://user:hunter2@rpc.example/v2/s%2Fecret?api-key=abcdef"]).endpoints
    shown = endpoint.scrub("user hunter2 called /v2/s%2Fecret (s/ecret) with abcdef\nand\x1b[31m " + "x" * 500)
    assert not any(part in shown for part in ("hunter2", "ecret", "abcdef", "\n", "\x1b"))
    assert len(shown) == 200
