"""The recorder: nothing is lost while there is room, nothing is sent as something else, nothing blocks or raises."""

import asyncio
import gc
import json
import logging
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from tollwatch import ConfigError, Payment, Recorder, Registration, Tuning
from tollwatch.recorder import DROPPED

from tests.client.tools import Tollwatch, eventually, in_balance, note, numbers, problem, recorder_for

BUSY = {"retry-after": "0"}


def test_events_arrive_in_batches_with_the_key_and_the_agents_name():
    tollwatch = Tollwatch()
    with recorder_for(tollwatch, batch_events=50) as recorder:
        ids = [recorder.record(note(number)) for number in range(120)]
        assert recorder.flush(20)
        stats = recorder.stats()
    assert list(tollwatch.stored) == ids
    assert {event["agent"] for event in tollwatch.stored.values()} == {"mine"}
    assert max(map(len, tollwatch.posts)) <= 50
    assert {call[2] for call in tollwatch.calls} == {"Bearer key-1"}
    assert (stats.recorded, stats.accepted, stats.waiting, stats.dropped) == (120, 120, 0, 0)
    assert not tollwatch.puts


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503, headers=BUSY), httpx.Response(429, headers=BUSY), httpx.Response(500), httpx.Response(401),
        httpx.Response(403), httpx.Response(404), httpx.Response(302), httpx.Response(400, text="a proxy's own page"),
        httpx.Response(200, text="hello"), httpx.Response(200, json=[]), httpx.ConnectError("no"), httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"), ValueError("a bug"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_taken_goes_again_with_the_same_ids(answer):
    tollwatch = Tollwatch(answer)
    with recorder_for(tollwatch) as recorder:
        ident = recorder.record(note(1))
        assert recorder.flush(20)
        assert recorder.stats().accepted == 1
        assert recorder.stats().trouble == ""
    assert list(tollwatch.stored) == [ident]


def test_retry_after_is_obeyed():
    tollwatch = Tollwatch(httpx.Response(503, headers={"retry-after": "1"}))
    with recorder_for(tollwatch) as recorder:
        recorder.record(note(1))
        assert recorder.flush(20)
    (first, *_), (second, *_) = tollwatch.calls
    assert second - first >= 1


def test_a_wrong_key_is_said_once_and_events_are_kept(caplog):
    tollwatch = Tollwatch(*[httpx.Response(401) for _ in range(4)])
    with recorder_for(tollwatch) as recorder:
        recorder.record(note(1))
        eventually(lambda: recorder.stats().trouble)
        assert "401" in recorder.stats().trouble
        assert recorder.flush(20)
    assert len([line for line in caplog.messages if "401" in line]) == 1


def test_what_is_spooled_is_delivered():
    tollwatch = Tollwatch(
        httpx.Response(200, json={"accepted": 1, "duplicates": None, "rejected": [], "spooled": True})
    )
    with recorder_for(tollwatch) as recorder:
        recorder.record(note(1))
        assert recorder.flush(20)
        stats = recorder.stats()
        assert (stats.accepted, stats.spooled, stats.duplicates) == (1, 1, 0)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_body_that_is_refused_is_halved_until_the_culprit_stands_alone(status):
    tollwatch = Tollwatch()
    tollwatch.poison = lambda event: status if event.get("details", {}).get("number") == 5 else None
    with recorder_for(tollwatch, linger_s=0.1) as recorder:
        for number in range(9):
            recorder.record(note(number))
        assert recorder.flush(20)
        stats = recorder.stats()
    assert numbers(tollwatch.stored.values()) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert stats.rejected == {f"http_{status}": 1}
    assert in_balance(stats)


def test_rejections_are_final_counted_by_code_and_said_once(caplog):
    tollwatch = Tollwatch()
    tollwatch.poison = lambda event: "too_late" if event["details"]["number"] % 2 else None
    with recorder_for(tollwatch) as recorder, caplog.at_level(logging.WARNING):
        for number in range(6):
            recorder.record(note(number))
        assert recorder.flush(20)
        assert recorder.stats().rejected == {"too_late": 3}
        assert in_balance(recorder.stats())
    assert len([line for line in caplog.messages if "too_late" in line]) == 1


def test_an_agent_that_tollwatch_does_not_know_is_registered_and_its_events_sent_again():
    tollwatch = Tollwatch()
    tollwatch.known = False
    with recorder_for(tollwatch) as recorder:
        recorder.record(note(1))
        assert recorder.flush(20)
        assert (recorder.stats().accepted, recorder.stats().rejected) == (1, {})
    assert tollwatch.puts == [("/v1/agents/mine", {})]


def test_a_registration_goes_first_and_again_when_it_was_forgotten():
    registration = Registration(agent={"max_retries": 2}, wallets={"w": {"network": "n"}})
    tollwatch = Tollwatch()
    with recorder_for(tollwatch, registration=registration) as recorder:
        recorder.register("/v1/agents/mine/sessions/s", {"tx_used": 1})
        recorder.register("/v1/agents/mine/sessions/s", {"tx_used": 2})
        recorder.record(note(1))
        assert recorder.flush(20)
        first = [("/v1/agents/mine", {"max_retries": 2}), ("/v1/agents/mine/wallets/w", {"network": "n"})]
        assert tollwatch.puts[:2] == first
        assert tollwatch.puts[-1] == ("/v1/agents/mine/sessions/s", {"tx_used": 2})
        told = len(tollwatch.puts)
        tollwatch.known = False
        recorder.record(note(2))
        assert recorder.flush(20)
        assert tollwatch.puts[told:] == [*first, ("/v1/agents/mine/sessions/s", {"tx_used": 2})]
    assert numbers(tollwatch.stored.values()) == [1, 2]


def test_an_agent_that_cannot_be_registered_gets_its_events_rejected_and_counted():
    tollwatch = Tollwatch()
    tollwatch.known = False
    tollwatch.refuse_put = [problem(422)] * 10
    with recorder_for(tollwatch) as recorder:
        recorder.record(note(1))
        assert recorder.flush(20)
        assert recorder.stats().rejected == {"unknown_agent": 1}
        assert recorder.stats().unregistered == {"http_422": 1}


def test_a_registration_waits_for_better_times():
    tollwatch = Tollwatch()
    tollwatch.refuse_put = [httpx.Response(503, headers=BUSY), httpx.Response(401)]
    with recorder_for(tollwatch) as recorder:
        recorder.register("/v1/agents/mine/sessions/s", {})
        assert recorder.flush(20)
        assert not recorder.stats().unregistered
    assert [path for path, _ in tollwatch.puts] == ["/v1/agents/mine/sessions/s"]


def test_a_full_buffer_drops_the_oldest_counts_it_and_tells_tollwatch():
    tollwatch = Tollwatch(*[httpx.Response(503, headers=BUSY)] * 1_000_000)
    with recorder_for(tollwatch, max_events=10, batch_events=5) as recorder:
        for number in range(200):
            recorder.record(note(number))
        eventually(lambda: recorder.stats().dropped >= 185)
        stats = recorder.stats()
        assert in_balance(stats)
        assert stats.dropped_by == {"buffer_full": stats.dropped}
        tollwatch.answers.clear()
        assert recorder.flush(20)
        eventually(lambda: any(event["event_type"] == DROPPED for event in tollwatch.stored.values()))
    kept = numbers(tollwatch.stored.values())
    assert kept[-10:] == list(range(190, 200))
    (told,) = [event for event in tollwatch.stored.values() if event["event_type"] == DROPPED]
    assert told["details"] == {"dropped": 200 - len(kept), "by": {"buffer_full": 200 - len(kept)}}


def test_memory_is_bounded_in_bytes_too():
    tollwatch = Tollwatch(*[httpx.Response(503, headers=BUSY)] * 1_000_000)
    with recorder_for(tollwatch, max_bytes=65536, batch_bytes=65536, batch_events=1, close_s=0.1) as recorder:
        for number in range(100):
            recorder.record(note(number, entity_id="x" * 300, component="c" * 100))
        held = recorder.stats().waiting
        assert held + 20 > 65536 // 700
        assert held < 65536 // 500 + 2


def test_events_too_old_for_tollwatch_are_dropped():
    tollwatch = Tollwatch(*[httpx.Response(503, headers=BUSY)] * 1_000_000)
    now = [1_800_000_000_000]
    with recorder_for(tollwatch, unix_ms=lambda: now[0], max_age_s=60) as recorder:
        recorder.record(note(1))
        eventually(lambda: tollwatch.calls)
        now[0] += 61_000
        recorder.record(note(2))
        eventually(lambda: recorder.stats().dropped_by == {"too_old": 1})
        tollwatch.answers.clear()
        assert recorder.flush(20)
        assert in_balance(recorder.stats())
    assert numbers(tollwatch.stored.values()) == [2]


def test_what_cannot_be_sent_is_counted_and_never_raised(caplog):
    tollwatch = Tollwatch()
    with recorder_for(tollwatch) as recorder:
        bad = Payment(payment_id="x", status="pending", amount=-1, asset="", service="s")
        assert recorder.record(bad)
        assert recorder.record(bad)

        class Rude:
            def __str__(self):
                raise RuntimeError("no")

        assert recorder.record(note(Rude()))
        stats = recorder.stats()
        assert (stats.invalid, stats.recorded, stats.errors) == ({"payment_id": 2}, 0, 1)
    assert len([line for line in caplog.messages if "invalid" in line]) == 1


def test_an_http_client_that_cannot_be_made_counts_and_nothing_else():
    def broken():
        raise RuntimeError("no certificates")

    recorder = recorder_for(Tollwatch(), http=broken)
    recorder.record(note(1))
    eventually(lambda: recorder.stats().errors)
    recorder.close()
    assert recorder.stats().dropped_by == {"closed": 1}


def test_closing_sends_what_waits_and_drops_what_it_cannot():
    tollwatch = Tollwatch()
    recorder = recorder_for(tollwatch, linger_s=60)
    recorder.record(note(1))
    recorder.close()
    assert numbers(tollwatch.stored.values()) == [1]
    recorder.record(note(2))
    recorder.close()
    assert recorder.stats().recorded == 1
    nobody = Recorder("http://127.0.0.1:9", "k", "a", tuning=Tuning(close_s=2.0, first_backoff_s=0.01))
    nobody.record(note(1))
    nobody.close()
    assert nobody.stats().dropped_by == {"closed": 1}
    assert in_balance(nobody.stats())


async def test_it_works_from_an_event_loop():
    tollwatch = Tollwatch()
    recorder = recorder_for(tollwatch)
    await asyncio.gather(*(asyncio.to_thread(recorder.record, note(number)) for number in range(20)))
    recorder.record(note(20))
    await recorder.aclose()
    assert numbers(tollwatch.stored.values()) == list(range(21))


def test_many_threads_lose_nothing():
    tollwatch = Tollwatch()
    with recorder_for(tollwatch, batch_events=37) as recorder:

        def work(start):
            for number in range(start, start + 200):
                recorder.record(note(number))

        threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 1600, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert recorder.flush(20)
        assert in_balance(recorder.stats())
    assert numbers(tollwatch.stored.values()) == list(range(1600))


def test_without_a_url_it_is_silent():
    recorder = Recorder("", "k", "a")
    assert recorder.record(note(1))
    recorder.register("/v1/agents/a", {})
    recorder.close()
    assert recorder.stats().recorded == 0
    assert not recorder._threads


def test_what_it_cannot_be_made_of_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError, match="http"):
        Recorder("127.0.0.1:8402", "k")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        Recorder("http://x", "k", disk=tmp_path / "file")
    with pytest.raises(ConfigError, match="disk_bytes"):
        Tuning(disk_bytes=10)


def test_a_recorder_that_nobody_holds_is_no_leak():
    recorder = recorder_for(Tollwatch())
    import weakref  # noqa: PLC0415

    alive = weakref.ref(recorder)
    recorder.close()
    del recorder
    gc.collect()
    assert alive() is None


def test_the_child_of_a_fork_starts_afresh(tmp_path):
    """The parent's events are sent by the parent, the child's by the child, even when the fork came at a bad time."""
    script = """
import os, sys, warnings
import httpx
from tests.client.tools import Tollwatch, note, recorder_for
warnings.simplefilter("ignore")
tollwatch = Tollwatch()
recorder = recorder_for(tollwatch, linger_s=0.2, disk=sys.argv[1])
recorder.record(note(1))
recorder._buffer._lock.acquire()  # as another thread might hold it
read, write = os.pipe()
child = os.fork()
if child == 0:
    recorder.record(note(2))
    assert recorder.flush(20)
    os.write(write, repr(sorted(e["details"]["number"] for e in tollwatch.stored.values())).encode())
    recorder.close()
    os._exit(0)
recorder._buffer._lock.release()
assert os.waitpid(child, 0)[1] == 0
assert recorder.flush(20)
print(os.read(read, 100).decode(), sorted(e["details"]["number"] for e in tollwatch.stored.values()))
recorder.close()
print(os.listdir(sys.argv[1]))
"""
    assert run(script, str(tmp_path / "disk")).split("\n")[:2] == ["[2] [1]", "[]"]


def test_the_end_of_the_process_sends_what_waits():
    script = """
import atexit
from tests.client.tools import Tollwatch, note, recorder_for
tollwatch = Tollwatch()
atexit.register(lambda: print(len(tollwatch.stored)))  # runs after the recorder's own
recorder = recorder_for(tollwatch, linger_s=60)
recorder.record(note(1))
"""
    assert run(script).strip() == "1"


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


DYING = """
import os, signal, sys
import httpx
from tests.client.tools import note, recorder_for

class Away:
    def client(self):
        return httpx.Client(transport=httpx.MockTransport(self.refuse))
    def refuse(self, request):
        raise httpx.ConnectError("nobody")

recorder = recorder_for(Away(), disk=sys.argv[1])
for number in range(1000):
    recorder.record(note(number))
assert recorder.persist(20)
for number in range(1000, 1100):
    recorder.record(note(number))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_persisted_survives_kill_9_of_the_agent(tmp_path):
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    segments = list(tmp_path.glob("*/*.seg"))
    assert segments
    with segments[-1].open("ab") as torn:
        torn.write(b"00000000 half a li")
    tollwatch = Tollwatch()
    with recorder_for(tollwatch, disk=tmp_path) as recorder:
        assert recorder.flush(20)
        stats = recorder.stats()
    assert stats.recovered == stats.accepted >= 1000
    assert numbers(tollwatch.stored.values())[:1000] == list(range(1000))
    assert not list(tmp_path.iterdir())


FULL = """
import json, resource, signal, sys
from tests.client.tools import Tollwatch, in_balance, note, numbers, recorder_for
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # a disk on which no file grows any further
tollwatch = Tollwatch()
import httpx
tollwatch.answers = [httpx.Response(503, headers={"retry-after": "0"})] * 10
with recorder_for(tollwatch, disk=sys.argv[1], batch_events=400, disk_retry_s=0.05) as recorder:
    for number in range(3000):
        recorder.record(note(number))
    assert recorder.flush(30), recorder.stats()
    stats = recorder.stats()
print(json.dumps([numbers(tollwatch.stored.values()) == list(range(3000)), stats.disk_errors, stats.dropped, in_balance(stats)]))
"""


def test_a_disk_on_which_nothing_can_be_written_is_done_without(tmp_path):
    complete, disk_errors, dropped, balance = json.loads(run(FULL, str(tmp_path)))
    assert (complete, dropped, balance) == (True, 0, True)
    assert disk_errors > 0


def test_a_full_disk_buffer_drops_its_oldest_segment_and_counts_it(tmp_path):
    tollwatch = Tollwatch(*[httpx.Response(503, headers=BUSY)] * 1_000_000)
    with recorder_for(tollwatch, disk=tmp_path, disk_bytes=1024 * 1024) as recorder:
        for number in range(6000):
            recorder.record(note(number, entity_id="e" * 300))
            if number % 500 == 0:
                assert recorder.persist(20)
        assert recorder.persist(20)
        stats = recorder.stats()
        assert stats.dropped_by.keys() == {"disk_full"}
        assert in_balance(stats)
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*.seg")) <= 1024 * 1024
        tollwatch.answers.clear()
        assert recorder.flush(20)
        stats = recorder.stats()
        assert in_balance(stats)
    kept = numbers(tollwatch.stored.values())
    assert len(kept) == 6000 - stats.dropped
    assert kept[-1] == 5999


def test_two_processes_share_a_folder_and_neither_takes_what_is_the_others(tmp_path):
    away = Tollwatch(*[httpx.Response(503, headers=BUSY)] * 1_000_000)
    with recorder_for(away, disk=tmp_path) as first:
        first.record(note(1))
        assert first.persist(20)
        tollwatch = Tollwatch()
        with recorder_for(tollwatch, disk=tmp_path) as second:
            second.record(note(2))
            assert second.flush(20)
            assert second.stats().recovered == 0
        assert numbers(tollwatch.stored.values()) == [2]
        away.answers.clear()
        assert first.flush(20)
    assert not list(tmp_path.iterdir())


def test_what_is_left_on_disk_is_sent_by_the_next_process(tmp_path):
    away = Tollwatch(*[httpx.Response(503, headers=BUSY)] * 1_000_000)
    with recorder_for(away, disk=tmp_path) as first:
        ids = [first.record(note(number)) for number in range(10)]
        assert first.persist(20)
    assert (first.stats().dropped, first.stats().waiting) == (0, 10)
    tollwatch = Tollwatch()
    with recorder_for(tollwatch, disk=tmp_path) as second:
        assert second.flush(20)
    assert list(tollwatch.stored) == ids
    assert not list(tmp_path.iterdir())
