"""Sends what the recorder holds, in a thread of its own, until Tollwatch has answered for it.

An event leaves the buffer only with an answer for it, and goes again with the same id until there is one; Tollwatch
stores it once. What the answers mean:

    200                     accepted, known already, or rejected for good (counted by code)
      unknown_agent         the agent is registered (again) and the event sent again, once
    400 413 415 422         the body is at fault: it is halved until the culprit stands alone, which is given up
    408 429 5xx, no answer  again, later; Retry-After is obeyed
    anything else           again, slowly, and said once: a key or an address is wrong, and events are kept
"""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tollwatch.buffer import Buffer
from tollwatch.errors import TryLater
from tollwatch.events import Item
from tollwatch.ids import ms_of
from tollwatch.journal import Batch, Journal
from tollwatch.stats import Figures, log
from tollwatch.tuning import Registration, Tuning

FAREWELLS = 3
"""Failed tries after which a recorder that closes gives up, even before its time is over."""

TICK_S = 5.0
"""How often an idle thread looks after what has to lapse."""

COMPRESS_FROM = 1024
"""Bytes from which a body is compressed."""

_AT_FAULT = frozenset({400, 413, 415, 422})
_PROBLEM = "application/problem+json"
_UNKNOWN_AGENT = "unknown_agent"


class Registry:
    """What is to be PUT before the next event. Only the newest body of a path counts."""

    def __init__(self, name: str | None, registration: Registration | None) -> None:
        self._lock = threading.Lock()
        self._declared: dict[str, Mapping[str, Any]] = {}
        if name is not None:
            self._declared = dict((registration or Registration()).paths(name))
        self._untold = dict(self._declared) if registration is not None else {}
        self._latest: dict[str, Mapping[str, Any]] = {}

    def add(self, path: str, body: Mapping[str, Any]) -> None:
        """PUT this before the next event."""
        with self._lock:
            self._untold[path] = body
            self._latest = {path: body}

    def again(self) -> bool:
        """Tell everything again, the newest addition too; False when there is nothing to tell."""
        with self._lock:
            self._untold = {**self._declared, **self._latest, **self._untold}
            return bool(self._untold)

    def next(self) -> tuple[str, Mapping[str, Any]] | None:
        """What comes first."""
        with self._lock:
            return next(iter(self._untold.items()), None)

    def told(self, path: str, body: Mapping[str, Any]) -> None:
        """It was, unless there is a newer body by now."""
        with self._lock:
            if self._untold.get(path) is body:
                del self._untold[path]

    def essential(self, path: str) -> bool:
        """Whether events would be rejected without it."""
        return path in self._declared

    def reset_lock(self) -> None:
        """After a fork."""
        self._lock = threading.Lock()

    @property
    def empty(self) -> bool:
        """Whether everything was told."""
        return not self._untold


class Delivery:
    """Loops for two threads: `write`, from memory to disk, and `send`, to Tollwatch from disk, or else from memory."""

    def __init__(
        self, url: str, key: str, buffer: Buffer, registry: Registry, figures: Figures, tuning: Tuning
    ) -> None:
        self.journal: Journal | None = None
        self.wake = threading.Event()
        self.closing = threading.Event()
        self.on_tick: Callable[[], None] = lambda: None
        self.on_losses: Callable[[], None] = lambda: None
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": "tollwatch-python"}
        self._buffer = buffer
        self._registry = registry
        self._figures = figures
        self._tuning = tuning
        self._written = threading.Event()
        self._disk_broken_until = 0.0
        self._stack: list[list[Item]] = []
        self._batch: Batch | list[Item] | None = None
        self._registered_for: frozenset[str] = frozenset()
        self._backoff_s = tuning.first_backoff_s
        self._batch_events = tuning.batch_events

    # From memory to disk

    def write(self) -> None:
        """Until closing, and nothing is left in memory: a batch, one fsync."""
        while not (self.closing.is_set() and self._buffer.empty):
            self.wake.wait(TICK_S)
            self.wake.clear()
            if not self.closing.is_set():
                self.closing.wait(self._tuning.linger_s)
            try:
                while not self._buffer.empty and self._write_some():
                    pass
            except Exception as exc:  # noqa: BLE001 - nothing may end this thread
                self._fault(exc)
            if self._disk_broken and self.closing.is_set():
                return

    @property
    def _disk_broken(self) -> bool:
        return self.journal is None or time.monotonic() < self._disk_broken_until

    def _write_some(self) -> bool:
        if self.journal is None or self._disk_broken:
            self._written.set()  # the other thread sends it from memory
            return False
        items = self._buffer.take(self._tuning.batch_events, self._tuning.batch_bytes // 4)
        try:
            self.journal.append(items)
        except OSError as exc:
            self._buffer.give_back(items)
            self._disk_broken_until = time.monotonic() + self._tuning.disk_retry_s
            self._figures.add("disk_errors")
            self._figures.warn_once("disk", "tollwatch_disk_buffer_failed error=%s", exc)
            self._written.set()
            return False
        self._buffer.release(len(items))
        self._note_losses()
        self._written.set()
        return True

    def _note_losses(self) -> None:
        if self.journal is None:
            return
        losses = self.journal.take_losses()
        for reason, number in (("disk_full", losses.full), ("corrupt", losses.corrupt)):
            if number:
                self._figures.add_by("dropped", reason, number)

    # To Tollwatch

    def send(self, deadline: float | None = None) -> None:
        """Until closing, and nothing is left, or FAREWELLS tries in a row have failed, or `deadline` (monotonic)."""
        farewells = 0
        try:
            with self._tuning.http() as http:
                while self._goes_on(farewells, deadline):
                    try:
                        self._step(http)
                        self._backoff_s = self._tuning.first_backoff_s
                        farewells = 0
                    except (TryLater, httpx.HTTPError) as exc:
                        farewells += self.closing.is_set()
                        self._pause(exc)
                    except Exception as exc:  # noqa: BLE001 - nothing may end this thread
                        farewells += self.closing.is_set()
                        self._fault(exc)
                        self._pause(exc)
        except Exception as exc:  # noqa: BLE001 - a client that cannot be made, or closed
            self._fault(exc)
        self._put_back()

    def _goes_on(self, farewells: int, deadline: float | None) -> bool:
        if not self.closing.is_set():
            return True
        left = self._stack or not self._buffer.empty or not self._registry.empty or self._on_disk
        return bool(left) and farewells < FAREWELLS and (deadline is None or time.monotonic() < deadline)

    @property
    def _on_disk(self) -> int:
        return self.journal.backlog if self.journal is not None else 0

    def _step(self, http: httpx.Client) -> None:
        """Do the next thing: register, send a batch, or wait for events."""
        self.on_tick()
        untold = self._registry.next()
        if untold is not None:
            self._register(http, *untold)
        elif self._stack or self._take():
            self._post(http)
        elif self.closing.is_set():
            time.sleep(0.005)  # the other thread is still writing
        else:
            self._wait_for_events()

    def _wait_for_events(self) -> None:
        if self.journal is not None:
            self._written.wait(TICK_S)
            self._written.clear()
            return
        self.wake.wait(TICK_S)
        self.wake.clear()
        self.closing.wait(self._tuning.linger_s)

    def nudge(self) -> None:
        """There is something new to do. Called for every event, so it must be cheap."""
        if not self.wake.is_set():
            self.wake.set()

    def registration_waits(self) -> None:
        """There is something to register."""
        self.wake.set()
        self._written.set()

    def hurry(self) -> None:
        """End both loops as soon as nothing is left, or cannot be sent."""
        self.closing.set()
        self.wake.set()
        self._written.set()

    def _take(self) -> bool:
        """Put the next batch on the stack; whether there was one."""
        most = self._batch_events, self._tuning.batch_bytes
        batch: Batch | list[Item] | None = self.journal.read(*most) if self.journal is not None else None
        self._note_losses()
        if batch is None and self._disk_broken:
            batch = self._buffer.take(*most) or None
        if batch is None:
            return False
        self._batch = batch
        self._registered_for = frozenset()
        self._stack.append(batch.items if isinstance(batch, Batch) else batch)
        return True

    def _let_go(self, batch: Batch | list[Item]) -> None:
        if isinstance(batch, Batch):
            assert self.journal is not None
            self.journal.release(batch)
        else:
            self._buffer.release(len(batch))

    def _fresh(self, items: list[Item]) -> list[Item]:
        oldest = self._tuning.unix_ms() - self._tuning.max_age_s * 1000
        fresh = [item for item in items if ms_of(item.id) >= oldest]
        if len(fresh) < len(items):
            self._figures.add_by("dropped", "too_old", len(items) - len(fresh))
        return fresh

    def _put_back(self) -> None:
        """What is not answered for: on disk it stays, from memory it can go nowhere any more."""
        batch, self._batch = self._batch, None
        unanswered = [item for items in self._stack for item in items]
        self._stack = []
        if isinstance(batch, Batch) and self.journal is not None:
            if unanswered:
                self.journal.give_back(batch)
            else:
                self.journal.release(batch)
        elif isinstance(batch, list):
            self._buffer.release(len(batch) - len(unanswered))
            self._buffer.give_back(unanswered)

    # One exchange

    def _register(self, http: httpx.Client, path: str, body: Mapping[str, Any]) -> None:
        response = http.put(
            self._url + path,
            content=json.dumps(body).encode(),
            headers={**self._headers, "Content-Type": "application/json"},
            timeout=self._tuning.request_timeout_s,
        )
        status = response.status_code
        refused = status in (404, 405, 409, *_AT_FAULT) and _is_problem(response)
        if refused:
            self._figures.add_by("unregistered", f"http_{status}")
            self._figures.warn_once(
                f"unregistered {status}", "tollwatch_registration_refused path=%s status=%s", path, status
            )
        elif not response.is_success:
            raise _later(f"PUT {path}", response)
        self._registry.told(path, body)

    def _post(self, http: httpx.Client) -> None:
        items = self._stack[-1] = self._fresh(self._stack[-1])
        if not items:
            self._answered()
            return
        body = b"[" + b",".join(item.body for item in items) + b"]"
        headers = {**self._headers, "Content-Type": "application/json"}
        if len(body) >= COMPRESS_FROM:
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        response = http.post(
            f"{self._url}/v1/events", content=body, headers=headers, timeout=self._tuning.request_timeout_s
        )
        if response.status_code in _AT_FAULT and _is_problem(response):
            self._refused(items, response.status_code)
            return
        if not response.is_success:
            raise _later("POST /v1/events", response)
        self._settle(items, _answer(response))

    def _refused(self, items: list[Item], status: int) -> None:
        if len(items) > 1:
            middle = len(items) // 2
            self._stack[-1:] = [items[middle:], items[:middle]]
            if status == 413:
                self._batch_events = max(1, middle)
            return
        self._reject(f"http_{status}", "the body was refused")
        self._answered()

    def _settle(self, items: list[Item], answer: dict[str, Any]) -> None:
        rejected = [one for one in answer.get("rejected") or () if isinstance(one, dict)]
        unknown = {one.get("index") for one in rejected if one.get("code") == _UNKNOWN_AGENT}
        again = [item for index, item in enumerate(items) if index in unknown and item.id not in self._registered_for]
        if again and not self._registry.again():
            again = []
        resent = {item.id for item in again}
        for one in rejected:
            index = one.get("index")
            if not (isinstance(index, int) and 0 <= index < len(items) and items[index].id in resent):
                self._reject(str(one.get("code")), str(one.get("message")))
        self._figures.add("accepted", _count(answer.get("accepted")))
        if answer.get("spooled"):
            self._figures.add("spooled", _count(answer.get("accepted")))
        self._figures.add("duplicates", _count(answer.get("duplicates")))
        self._figures.add("batches")
        self._figures.trouble = ""
        self._batch_events = min(self._tuning.batch_events, self._batch_events * 2)
        if again:
            self._registered_for |= resent
            self._stack[-1] = again
        else:
            self._answered()

    def _answered(self) -> None:
        """There is an answer for all of the topmost; with the last of them the batch is done."""
        self._stack.pop()
        if not self._stack and self._batch is not None:
            self._let_go(self._batch)
            self._batch = None
            self.on_losses()

    def _reject(self, code: str, message: str) -> None:
        self._figures.add_by("rejected", code)
        self._figures.warn_once(f"rejected {code}", "tollwatch_rejected code=%s message=%s", code, message)

    # Trouble

    def _pause(self, error: Exception) -> None:
        """Back off, with jitter so that agents do not return together; one that closes tries faster."""
        tuning = self._tuning
        self._lament(error)
        delay = self._backoff_s * random.uniform(0.5, 1.5)  # noqa: S311
        self._backoff_s = min(self._backoff_s * 2, tuning.max_backoff_s)
        if isinstance(error, TryLater):
            if error.after_s is not None:
                delay = min(error.after_s, tuning.max_retry_after_s)
            elif error.slow:
                delay = tuning.slow_s * random.uniform(0.5, 1.5)  # noqa: S311
        if self.closing.wait(delay):
            time.sleep(min(tuning.first_backoff_s, 0.25))

    def _lament(self, error: Exception) -> None:
        """Log an answer that somebody should look into, once; that nobody answers yet is no news."""
        self._figures.trouble = f"{type(error).__name__}: {error}"[:200]
        if isinstance(error, TryLater):
            self._figures.warn_once(str(error), "tollwatch_does_not_take_it error=%s", error)

    def _fault(self, error: Exception) -> None:
        self._figures.add("errors")
        self._figures.warn_once(f"fault {type(error).__name__}", "tollwatch_fault error=%r", error)
        log.debug("tollwatch_fault", exc_info=error)


def _is_problem(response: httpx.Response) -> bool:
    """Whether it is Tollwatch who says so, and not something in between."""
    return str(response.headers.get("content-type", "")).startswith(_PROBLEM)


def _later(what: str, response: httpx.Response) -> TryLater:
    status = response.status_code
    slow = status not in (408, 425, 429) and status < 500
    after = response.headers.get("Retry-After", "")
    return TryLater(f"{what} got {status}", float(after) if after.isdigit() else None, slow=slow)


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("accepted"), int):
        raise TryLater("POST /v1/events got an answer that is not Tollwatch's", slow=True)
    return answer


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
