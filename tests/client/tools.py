"""What the client's tests share: a stand-in for Tollwatch's answers, and recorders that do not wait long."""

from __future__ import annotations

import gzip
import json
import threading
import time

import httpx
from tollwatch import Audit, Recorder, Tuning

WAIT_S = 20
QUICK = {"linger_s": 0.005, "first_backoff_s": 0.01, "max_backoff_s": 0.05, "slow_s": 0.02, "close_s": 5.0}


class Tollwatch:
    """Keeps what it is told and answers as it is told to: `answers` go first, one for each POST."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.refuse_put = []
        self.puts, self.posts, self.stored, self.calls = [], [], {}, []
        self.known = True
        self.poison = lambda event: None
        self.lock = threading.Lock()

    def __call__(self, request):
        with self.lock:
            self.calls.append((time.monotonic(), request.method, request.headers.get("authorization")))
            body = request.read()
            body = gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body
            if request.method == "PUT":
                return self._put(request, json.loads(body))
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
            return self._post(json.loads(body))

    def _put(self, request, body):
        if self.refuse_put:
            return self.refuse_put.pop(0)
        self.puts.append((request.url.path, body))
        self.known = True
        return httpx.Response(201, json={})

    def _post(self, batch):
        self.posts.append(batch)
        status = next((self.poison(event) for event in batch if isinstance(self.poison(event), int)), None)
        if status is not None:
            return problem(status)
        rejected, duplicates = [], 0
        for index, event in enumerate(batch):
            code = self.poison(event) or ("unknown_agent" if not self.known else None)
            if code is not None:
                rejected.append({"index": index, "id": event["id"], "code": code, "message": "no"})
            elif event["id"] in self.stored:
                duplicates += 1
            else:
                self.stored[event["id"]] = event
        accepted = len(batch) - len(rejected) - duplicates
        answer = {"accepted": accepted, "duplicates": duplicates, "rejected": rejected, "spooled": False}
        return httpx.Response(200, json=answer)

    def client(self):
        return httpx.Client(transport=httpx.MockTransport(self))


def problem(status, **headers):
    return httpx.Response(status, json={}, headers={"content-type": "application/problem+json", **headers})


def recorder_for(tollwatch, agent="mine", registration=None, disk=None, **tuning):
    settled = Tuning(**{**QUICK, "http": tollwatch.client, **tuning})
    return Recorder("http://tollwatch", "key-1", agent, registration=registration, disk=disk, tuning=settled)


def note(number, **more):
    return Audit(event_type="x.note", details={"number": number}, **more)


def numbers(events):
    return sorted(event["details"]["number"] for event in events if event["event_type"] == "x.note")


def in_balance(stats):
    """Whether every event is accounted for."""
    told = stats.accepted + stats.duplicates + sum(stats.rejected.values())
    return stats.recorded + stats.recovered == told + stats.dropped + stats.waiting


def eventually(condition, what="it happens"):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
