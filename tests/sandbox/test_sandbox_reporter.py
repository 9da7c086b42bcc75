"""The line to Tollwatch: nothing is lost while there is room, nothing is sent as something else, nothing blocks."""

import asyncio
import json
import logging
import time

import pytest
from sandbox_tools import Recorder, eventually, serving
from starlette.responses import JSONResponse, Response

from sandbox.clock import WallClock
from sandbox.events import EventIds, event
from sandbox.reporter import BATCH_LIMIT, Reporter

REGISTRATIONS = {"/v1/agents/a": {"name": "a"}, "/v1/agents/a/wallets/w": {"network": "n"}}


@pytest.fixture
def ids():
    return EventIds(WallClock())


async def open_reporter(stack_url, **options):
    reporter = Reporter(stack_url, "key-1", REGISTRATIONS, first_backoff_s=0.02, **options)
    reporter.start()
    return reporter


def some(ids, count):
    return [event("payment", ids.new(), agent="a", amount=str(number), reason=None) for number in range(count)]


async def test_it_registers_first_and_then_reports_in_batches(ids):
    recorder = Recorder()
    async with serving(recorder.app()) as url:
        reporter = Reporter(url, "key-1", REGISTRATIONS)
        told = some(ids, BATCH_LIMIT + 7)
        for one in told:
            reporter.put(one)
        assert reporter.pending == len(told)
        reporter.start()
        await eventually(lambda: reporter.counters.accepted == len(told))
        await reporter.close()
    assert recorder.puts == list(REGISTRATIONS.items())
    assert [len(batch) for batch in recorder.posts] == [BATCH_LIMIT, 7]
    assert recorder.events == told
    assert recorder.keys == {"Bearer key-1"}
    assert "reason" not in told[0]
    assert (reporter.counters.sent, reporter.counters.dropped, reporter.pending) == (len(told), 0, 0)


async def test_what_is_not_taken_goes_again_with_the_same_ids(ids, caplog):
    recorder = Recorder()
    recorder.answers = [
        Response(status_code=503, headers={"Retry-After": "0"}),  # for the first PUT
        Response(status_code=401),
    ]
    async with serving(recorder.app()) as url:
        reporter = await open_reporter(url)
        await eventually(lambda: recorder.puts)
        recorder.answers = [
            Response(status_code=503, headers={"Retry-After": "0"}),
            Response(status_code=429, headers={"Retry-After": "0"}),
            Response("oops", 200),
            JSONResponse([], 200),
        ]
        told = some(ids, 3)
        for one in told:
            reporter.put(one)
        await eventually(lambda: reporter.counters.accepted == 3)
        await reporter.close()
    assert recorder.events == told
    assert reporter.counters.sent == 3
    assert [line for line in caplog.messages if "401" in line]


async def test_it_obeys_retry_after(ids):
    recorder = Recorder()
    async with serving(recorder.app()) as url:
        reporter = await open_reporter(url)
        await eventually(lambda: len(recorder.puts) == 2)
        recorder.answers = [Response(status_code=503, headers={"Retry-After": "1"})]
        began = time.monotonic()
        reporter.put(some(ids, 1)[0])
        await eventually(lambda: reporter.counters.accepted == 1)
        assert time.monotonic() - began >= 1
        await reporter.close()


async def test_nobody_there_neither_blocks_nor_raises(ids):
    reporter = Reporter("http://127.0.0.1:9", "k", REGISTRATIONS, queue_limit=5)
    reporter.start()
    for one in some(ids, 8):
        reporter.put(one)
    assert (reporter.pending, reporter.counters.dropped) == (5, 3)
    began = time.monotonic()
    await reporter.close(timeout_s=0.2)
    assert time.monotonic() - began < 2
    assert (reporter.pending, reporter.counters.dropped, reporter.counters.sent) == (0, 8, 0)


async def test_rejections_are_counted_by_code_and_logged_once(ids, caplog):
    recorder = Recorder()
    recorder.reject = lambda one: "too_late" if int(one["amount"]) % 2 else None
    async with serving(recorder.app()) as url:
        reporter = await open_reporter(url)
        with caplog.at_level(logging.WARNING):
            for one in some(ids, 6):
                reporter.put(one)
            await eventually(lambda: reporter.counters.sent == 6)
        await reporter.close()
    assert reporter.counters.accepted == 3
    assert dict(reporter.counters.rejected) == {"too_late": 3}
    assert len([line for line in caplog.messages if "too_late" in line]) == 1


async def test_an_agent_that_tollwatch_forgot_is_registered_again(ids):
    recorder = Recorder()
    async with serving(recorder.app()) as url:
        reporter = await open_reporter(url)
        await eventually(lambda: len(recorder.puts) == 2)
        recorder.reject = lambda one: "unknown_agent" if len(recorder.puts) == 2 else None
        told = some(ids, 2)
        reporter.put(told[0])
        await eventually(lambda: reporter.counters.rejected["unknown_agent"] == 1)
        reporter.put(told[1])
        await eventually(lambda: reporter.counters.accepted == 1)
        await reporter.close()
    assert len(recorder.puts) == 4


async def test_an_event_that_sinks_its_body_is_given_up_alone(ids):
    """A body refused as a whole is halved until the culprit stands alone."""
    recorder = Recorder()
    told = some(ids, 9)
    poison = told[5]["id"]

    async def refuse(request):
        batch = json.loads(await request.body())
        if any(one["id"] == poison for one in batch):
            return Response(status_code=422)
        recorder.posts.append(batch)
        return JSONResponse({"accepted": len(batch), "duplicates": 0, "rejected": []})

    app = recorder.app()
    app.router.routes.pop()
    app.add_route("/v1/events", refuse, methods=["POST"])
    async with serving(app) as url:
        reporter = Reporter(url, "k", REGISTRATIONS)
        for one in told:
            reporter.put(one)
        reporter.start()
        await eventually(lambda: reporter.counters.sent == 9)
        await reporter.close()
    assert [one["id"] for one in recorder.events] == [one["id"] for one in told if one["id"] != poison]
    assert dict(reporter.counters.rejected) == {"http_422": 1}


async def test_closing_sends_what_waits(ids):
    recorder = Recorder()
    async with serving(recorder.app()) as url:
        reporter = await open_reporter(url)
        await eventually(lambda: len(recorder.puts) == 2)
        for one in some(ids, 4):
            reporter.put(one)
        await reporter.close()
    assert reporter.counters.accepted == 4
    assert reporter.counters.dropped == 0


async def test_without_a_url_it_is_silent(ids):
    reporter = Reporter("", "k", REGISTRATIONS)
    reporter.start()
    reporter.put(some(ids, 1)[0])
    await asyncio.wait_for(reporter.close(), 1)
    assert (reporter.pending, reporter.counters.dropped) == (0, 0)


async def test_what_is_registered_on_the_way_comes_before_the_next_event_and_only_its_newest_body(ids):
    recorder = Recorder()
    async with serving(recorder.app()) as url:
        reporter = Reporter(url, "k", REGISTRATIONS)
        reporter.register("/v1/agents/a/sessions/s", {"tx_used": 1})
        reporter.register("/v1/agents/a/sessions/s", {"tx_used": 2})
        reporter.put(some(ids, 1)[0])
        reporter.start()
        await eventually(lambda: reporter.counters.accepted == 1)
        assert recorder.puts == [*REGISTRATIONS.items(), ("/v1/agents/a/sessions/s", {"tx_used": 2})]
        recorder.reject = lambda _: "unknown_agent" if len(recorder.puts) == 3 else None
        reporter.put(some(ids, 1)[0])
        await eventually(lambda: len(recorder.puts) == 6)
        assert recorder.puts[3:] == recorder.puts[:3]
        reporter.register("/v1/agents/a/sessions/s", {"tx_used": 3})
        await reporter.close()
    assert recorder.puts[-1] == ("/v1/agents/a/sessions/s", {"tx_used": 3})


async def test_a_registration_that_may_be_refused_waits_for_better_times_all_the_same(ids):
    recorder = Recorder()
    async with serving(recorder.app()) as url:
        reporter = await open_reporter(url)
        await eventually(lambda: len(recorder.puts) == 2)
        recorder.answers = [Response(status_code=503, headers={"Retry-After": "0"}), Response(status_code=401)]
        reporter.register("/v1/agents/a/sessions/s", {})
        await eventually(lambda: len(recorder.puts) == 3)
        await reporter.close()
    assert not reporter.counters.unregistered
