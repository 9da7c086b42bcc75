"""Flaky: retries with backoff, a breaker that opens, probes and closes, and money burnt by retries."""

import collections
import itertools

import pytest
import pytest_asyncio
from story_tools import FAST, told

from sandbox.stories.flaky import FAILURES_TO_OPEN
from sandbox.troubles import Act, cheating_acts, flaky_acts

CYCLES = 2
LEGAL = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tale():
    async with told("flaky", cycles=CYCLES) as one:
        yield one


@pytest.fixture
def requests(tale):
    """Attempts by request, in the order in which they were told."""
    grouped = collections.defaultdict(list)
    for one in tale.recorder.of_type("api_request"):
        grouped[one["request_id"]].append(one)
    return grouped


def test_the_breaker_goes_only_where_a_breaker_can(tale):
    account = tale.account("flaky")["breaker"]
    states = [one["state"] for one in account["items"]]
    assert set(itertools.pairwise(["closed", *states])) == LEGAL
    assert states.count("closed") == CYCLES
    assert states[-1] == "closed"
    names = {"open": "breaker_opened", "half_open": "breaker_half_opened", "closed": "breaker_closed"}
    breaks = tale.audits(*names.values())
    assert [(one["event_type"], one["id"]) for one in breaks] == [
        (names[one["state"]], one["event_id"]) for one in account["items"]
    ]
    assert {one["component"] for one in breaks} == {"knowledge"}


def test_attempts_are_those_of_retries_with_a_growing_backoff(requests):
    lengths = collections.Counter()
    for attempts in requests.values():
        assert [one["attempt"] for one in attempts] == list(range(1, len(attempts) + 1))
        assert [one["outcome"] for one in attempts[:-1]] == ["retrying"] * (len(attempts) - 1)
        assert attempts[-1]["outcome"] in ("ok", "failed", "skipped_open")
        for one in attempts[:-1]:
            nominal_ms = 250 * 2 ** (one["attempt"] - 1) / FAST["speed"]
            assert nominal_ms * 0.5 - 1 <= one["backoff_ms"] <= nominal_ms * 1.5 + 1
        lengths[len(attempts), attempts[-1]["outcome"]] += 1
    assert lengths[4, "failed"] >= CYCLES * (FAILURES_TO_OPEN + 1)
    assert {(1, "ok"), (2, "ok"), (1, "skipped_open"), (1, "failed")} <= set(lengths)
    assert {
        one["error_type"] for one in itertools.chain.from_iterable(requests.values()) if one["outcome"] == "failed"
    } == {"upstream_error"}


def test_nothing_is_asked_or_paid_while_the_breaker_is_open(requests):
    skipped = [one for attempts in requests.values() for one in attempts if one["breaker_state"] == "open"]
    assert len(skipped) >= 2 * CYCLES
    for one in skipped:
        assert (one["outcome"], one["paid"]) == ("skipped_open", False)
        assert not {"payment_id", "response_status", "latency_ms", "error_type"} & set(one)
    probes = [attempts for attempts in requests.values() if attempts[0]["breaker_state"] == "half_open"]
    assert {len(attempts) for attempts in probes} == {1}
    assert {attempts[0]["outcome"] for attempts in probes} == {"ok", "failed"}


def test_states_of_requests_are_those_of_the_breaker_at_the_time(tale, requests):
    changes = [(one["event_id"], one["state"]) for one in tale.account("flaky")["breaker"]["items"]]
    for attempts in requests.values():
        before = [state for ident, state in changes if ident < attempts[0]["id"]]
        assert attempts[0]["breaker_state"] == (["closed", *before])[-1] or attempts[0]["outcome"] != "skipped_open"


def test_retries_are_accounted_for(tale, requests):
    account = tale.account("flaky")
    retried = {
        ident: (len(attempts), attempts[-1]["outcome"]) for ident, attempts in requests.items() if len(attempts) > 1
    }
    assert {one["request_id"]: (one["attempts"], one["outcome"]) for one in account["retries"]["items"]} == retried
    ends = {"ok": "retry_success", "failed": "retry_exhausted"}
    said = {(one["request_id"], one["event_type"]) for one in tale.audits(*ends.values())}
    assert said == {(ident, ends[outcome]) for ident, (_, outcome) in retried.items()}


@pytest.mark.asyncio(loop_scope="module")
async def test_retries_burn_money(tale):
    """A payment that fails moves nothing; one taken in vain moves money, and the retry pays again."""
    payments = collections.defaultdict(list)
    for one in tale.recorder.of_type("payment"):
        if one["status"] != "pending":
            payments[one["request_id"]].append(one["status"])
    burnt = collections.Counter(map(tuple, payments.values()))
    assert burnt["failed", "settled"] == burnt["settled", "settled"] == CYCLES
    wallet, mint = (tale.account("flaky")[key] for key in ("wallet", "mint"))
    settled = tale.ended("settled").values()
    assert [await tale.spent(one["signature"], wallet, mint) for one in settled] == [3000] * len(settled)
    assert tale.account("flaky")["spent"] == str(3000 * len(settled))
    assert all("signature" not in one for one in tale.ended("failed").values())


@pytest.mark.parametrize("script", [flaky_acts, cheating_acts])
def test_troubles_are_the_same_for_the_same_seed(script):
    def acts(seed):
        return list(itertools.islice(script(seed), 200))

    assert acts(3) == acts(3) != acts(4)


@pytest.mark.parametrize("seed", range(20))
def test_every_flaky_episode_fits_three_retries(seed):
    runs = [(act, len(list(group))) for act, group in itertools.groupby(itertools.islice(flaky_acts(seed), 500))]
    down = [length for act, length in runs[:-1] if act is Act.DOWN]
    assert set(down) <= {1, 2, 3, 4, 13, 14}
    assert {act for act, _ in runs} == {Act.HONEST, Act.DOWN, Act.UNSETTLED, Act.PAID_AND_DOWN}
