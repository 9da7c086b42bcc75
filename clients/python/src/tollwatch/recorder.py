"""The recorder: takes events from an agent in no time, and sees to it that they arrive."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tollwatch.buffer import Buffer
from tollwatch.calls import About, Call
from tollwatch.delivery import Delivery, Registry
from tollwatch.errors import ConfigError, InvalidEvent
from tollwatch.events import Audit, Event
from tollwatch.ids import EventIds
from tollwatch.journal import Journal
from tollwatch.stats import Figures, Stats
from tollwatch.tuning import Registration, Tuning

DROPPED = "x.tollwatch.dropped"
"""The audit event by which Tollwatch learns that events of this agent are missing; its details say how many."""

POLL_S = 0.005

_living: weakref.WeakSet[Recorder] = weakref.WeakSet()
_fork_hook = threading.Lock()


class Watcher(Protocol):
    """What holds things back for a while before it records them."""

    def look(self, *, last: bool = False) -> None:
        """Record what has lapsed; with `last` everything."""

    def forget(self) -> None:
        """In the child of a fork: what is held back is the parent's."""


class Recorder:
    """An agent's line to Tollwatch at `url`, authorised by `key`. An empty `url` makes a recorder that keeps nothing.

    Every method but the constructor may be called from any thread and from any event loop, never raises and never
    waits, except those that say so. `disk` names a folder for the disk buffer: events then survive the process; any
    number of processes may share it. `registration` is told to Tollwatch before the first event; without one the agent
    is registered by its name alone, and only when Tollwatch does not know it.

    Raises ConfigError.
    """

    def __init__(
        self,
        url: str,
        key: str,
        agent: str | None = None,
        *,
        registration: Registration | None = None,
        disk: str | Path | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        if url and urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"the URL must begin with http:// or https://, not be {url[:50]!r}")
        self.agent = agent
        self._tuning = tuning or Tuning()
        self._enabled = bool(url)
        self._url, self._key = url, key
        self._registration = registration
        self._disk = Path(disk) if disk is not None and url else None
        self._ids = EventIds(self._tuning.unix_ms)
        self._starting = threading.Lock()
        self._closed = False
        self._watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()
        self._make_parts()
        self._open_journal()
        _living.add(self)
        _hook_forks()
        if url:
            self._at_exit = _close_at_exit(self)

    def _make_parts(self) -> None:
        self._figures = Figures()
        self._buffer = Buffer(self._tuning.max_events, self._tuning.max_bytes)
        self._registry = Registry(self.agent, self._registration)
        self._delivery = Delivery(self._url, self._key, self._buffer, self._registry, self._figures, self._tuning)
        self._delivery.on_losses = self._report_losses
        self._delivery.on_tick = self._look_after
        self._threads: list[threading.Thread] = []
        self._reported = 0

    def _open_journal(self) -> None:
        if self._disk is not None:
            journal = self._delivery.journal = Journal(self._disk, self._tuning.disk_bytes)
            self._figures.add("recovered", journal.recovered)
            if journal.recovered:
                self.start()

    # What an agent uses

    def record(self, event: Event) -> str:
        """Keep an event and send it soon; its id. What cannot be sent is counted: see `stats`."""
        ident = str(event.id) if event.id is not None else self._ids.new()
        if not self._enabled or self._closed:
            return ident
        try:
            item = event.encode(ident, self.agent)
        except InvalidEvent as exc:
            self._figures.add_by("invalid", exc.field)
            self._figures.warn_once(f"invalid {exc.field}", "tollwatch_invalid_event type=%s error=%s", event.TYPE, exc)
            return ident
        except Exception as exc:  # noqa: BLE001 - an agent does not fail because of its recorder
            self.fault(exc)
            return ident
        try:
            self._figures.add("recorded")
            dropped = self._buffer.put(item)
            if dropped:
                self._figures.add_by("dropped", "buffer_full", dropped)
                self._figures.warn_once("full", "tollwatch_buffer_full the oldest events are dropped")
            self._delivery.nudge()
            if not self._threads:
                self.start()
        except Exception as exc:  # noqa: BLE001
            self.fault(exc)
        return ident

    def new_id(self) -> str:
        """A UUID of version 7, for a request or a payment."""
        return self._ids.new()

    def call(self, about: About | None = None, *, request_id: str | None = None, breaker: Any = None) -> Call:
        """One logical request, for a `with` statement: what the transport sees inside are its attempts."""
        return Call(self, about or About(), request_id=request_id, breaker=breaker)

    def register(self, path: str, body: Mapping[str, Any]) -> None:
        """PUT `body` at `path` (a wallet, a session) before the next event. A refusal is counted, no more."""
        if self._enabled and not self._closed:
            self._registry.add(path, body)
            self._delivery.registration_waits()
            if not self._threads:
                self.start()

    def stats(self) -> Stats:
        """Where every event is."""
        journal = self._delivery.journal
        return self._figures.stats(len(self._buffer) + (journal.backlog if journal is not None else 0))

    @property
    def settled(self) -> bool:
        """Whether everything was told, events and registrations."""
        return not self.stats().waiting and self._registry.empty

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything recorded so far has an answer from Tollwatch; False when it took longer."""
        return self._until(lambda: self.settled, timeout_s)

    def persist(self, timeout_s: float) -> bool:
        """Wait until everything recorded so far is on disk (fsynced) or answered for; False when it took longer.

        After True these events survive the end of the process, however it comes, and of the machine. Without a disk
        buffer this is `flush`.
        """
        if self._delivery.journal is None:
            return self.flush(timeout_s)
        return self._until(lambda: not len(self._buffer), timeout_s)

    def _until(self, done: Any, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    # Its life

    def start(self) -> None:
        """Start the threads. The first event does it, too."""
        with self._starting:
            if self._threads or self._closed or not self._enabled:
                return
            loops: dict[str, Callable[[], None]] = {"tollwatch-send": self._delivery.send}
            if self._delivery.journal is not None:
                loops["tollwatch-write"] = self._delivery.write
            threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
            try:
                for thread in threads:
                    thread.start()
            except RuntimeError as exc:  # the interpreter is going, or there are too many threads
                self.fault(exc)
                return
            self._threads = threads

    def close(self, timeout_s: float | None = None) -> None:
        """Send what waits, for at most `timeout_s` (default: the tuning's). Waits so long.

        What is left counts as dropped (`closed`), unless it is on disk, where the next process finds it. Later events
        are ignored.
        """
        with self._starting:
            if self._closed:
                return
        deadline = time.monotonic() + (self._tuning.close_s if timeout_s is None else timeout_s)
        self._look_after(last=True)
        self._closed = True
        self._delivery.hurry()
        try:
            self._finish(deadline)
        except Exception as exc:  # noqa: BLE001
            self.fault(exc)
        if self._enabled:
            atexit.unregister(self._at_exit)

    async def aclose(self, timeout_s: float | None = None) -> None:
        """`close`, without holding the event loop up."""
        await asyncio.to_thread(self.close, timeout_s)

    def _finish(self, deadline: float) -> None:
        if not self._threads and not self.settled:
            if self._delivery.journal is not None:
                self._delivery.write()
            self._delivery.send(deadline)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return  # in the middle of an exchange; what it holds stays `waiting`, and nobody waits for it
        left = self._buffer.clear()
        if left:
            self._figures.add_by("dropped", "closed", left)
        if self._delivery.journal is not None:
            self._delivery.journal.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the parts of this library use

    def fault(self, error: BaseException) -> None:
        """Count a fault of this library, and log the first of its kind."""
        self._figures.add("errors")
        self._figures.warn_once(f"fault {type(error).__name__}", "tollwatch_fault error=%r", error)

    def skip(self, reason: str) -> None:
        """Count x402 traffic that no event can tell."""
        self._figures.add_by("skipped", reason)

    def attach(self, watcher: Watcher) -> None:
        """Let it look after what lapses, now and then, for as long as it lives."""
        self._watchers.add(watcher)

    def _look_after(self, *, last: bool = False) -> None:
        for watcher in list(self._watchers):
            try:
                watcher.look(last=last)
            except Exception as exc:  # noqa: BLE001
                self.fault(exc)

    def _report_losses(self) -> None:
        number, by = self._figures.dropped()
        if number > self._reported and self._buffer.empty and self.agent is not None and not self._closed:
            self._reported = number
            self.record(Audit(event_type=DROPPED, severity="warning", details={"dropped": number, "by": by}))

    def _reborn(self) -> None:
        """In the child of a fork: the parent's events, threads and files are the parent's; start afresh."""
        if self._delivery.journal is not None:
            self._delivery.journal.forget()
        for watcher in list(self._watchers):
            watcher.forget()
        self._ids.reset_lock()
        self._starting = threading.Lock()
        self._make_parts()
        try:
            self._open_journal()
        except ConfigError as exc:
            self._figures.add("disk_errors")
            self._figures.warn_once("disk", "tollwatch_disk_buffer_failed error=%s", exc)


def _hook_forks() -> None:
    """Once in a process, and not at import."""
    global _fork_hook_set  # noqa: PLW0603
    with _fork_hook:
        if not _fork_hook_set and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
            _fork_hook_set = True


_fork_hook_set = False


def _after_fork() -> None:
    for recorder in list(_living):
        recorder._reborn()  # noqa: SLF001


def _close_at_exit(recorder: Recorder) -> Any:
    """Close what the agent did not; without keeping it alive until then."""
    alive = weakref.ref(recorder)

    def close() -> None:
        found = alive()
        if found is not None:
            found.close()

    atexit.register(close)
    return close
