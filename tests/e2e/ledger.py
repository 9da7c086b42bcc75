"""A ledger of events: clients that know what was acknowledged, and what goes wrong around them meanwhile.

clients ──► API, API ──► gate ──► PostgreSQL        both APIs share one spool, on a small disk
  books        kill -9    cut        kill -9, freeze                              fill
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import psutil

from store.deadlines import Deadlines
from store.embedded import PostgresServer
from store.identity import uuid7
from tests.api.gate import Gate
from tests.e2e.stack import Process

SPOOL_DISK = 24 * 1024**2
"""Bytes of the spool's disk; less than what clients send during a long loss of the database."""
AMOUNT = 7


@dataclass
class Books:
    """What clients know: ids that they sent, ids that were acknowledged, and how."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)


class Client:
    """Sends numbered events at full speed, to one of the APIs; sends again what was not acknowledged, mostly."""

    def __init__(self, urls, key, books, rng):
        self._urls, self._key, self._books, self._rng = urls, key, books, rng
        self._number = 0

    async def run(self, stopping):
        headers = {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
            while not stopping.is_set():
                batch = [self._event() for _ in range(self._rng.choice((1, 5, 50, 200)))]
                self._books.sent.update(event["id"] for event in batch)
                for _ in range(self._rng.choice((1, 3, 10))):  # some give up: their events may be there, or not
                    if await self._send(http, batch):
                        break
                    await asyncio.sleep(self._rng.uniform(0.01, 0.2))

    def _event(self):
        self._number += 1
        now = datetime.now(UTC)
        return {
            "type": "payment",
            "id": str(uuid7(now)),
            "agent": "ledger",
            "payment_id": str(uuid7(now)),
            "status": "settled",
            "amount": str(AMOUNT),
            "asset": "USDC",
            "service": "http://ledger",
            "metadata": {"number": self._number},
        }

    async def _send(self, http, batch):
        patience = 0.05 if self._rng.random() < 0.02 else 30  # some hang up in the middle
        try:
            async with asyncio.timeout(patience):
                response = await http.post(self._rng.choice(self._urls) + "/v1/events", json=batch)
        except (httpx.HTTPError, TimeoutError) as exc:
            self._books.answers[type(exc).__name__] += 1
            return False
        if response.status_code != 200:
            assert response.status_code == 503, response.text
            assert int(response.headers.get("Retry-After", "0")) >= 1, response.text
            self._books.answers[f"503 {response.json()['code']}"] += 1
            return False
        told = response.json()
        assert told["rejected"] == [], told
        assert told["accepted"] + (told["duplicates"] or 0) == len(batch), told
        assert told["spooled"] == (told["duplicates"] is None), told
        self._books.answers["spooled" if told["spooled"] else "committed"] += 1
        self._books.acknowledged.update(event["id"] for event in batch)
        return True


class Api:
    """One API process, started again whenever it ends."""

    def __init__(self, name, folder, port, environ):
        self._name, self._folder, self._environ = name, folder, environ | {"TOLLWATCH_PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        self._process = None
        self._stopping = False

    async def run(self):
        """Keep it running until `stop`."""
        while not self._stopping:
            self._process = Process(self._name, ["cli", "api"], self._folder, **self._environ)
            await asyncio.to_thread(self._process.popen.wait)
            await asyncio.sleep(0.3)

    def kill(self):
        self._process.popen.kill()

    @property
    def pid(self):
        return self._process.popen.pid

    async def stop(self):
        """SIGTERM; the exit code."""
        self._stopping = True
        return await asyncio.to_thread(self._process.stop)

    def text(self):
        return self._process.text()


class Database:
    """A PostgreSQL of the test's own, behind a gate that keeps its address."""

    def __init__(self, folder, bin_dir, settings):
        self._server = PostgresServer(folder, bin_dir=bin_dir, deadlines=Deadlines(), settings=settings)
        self.gate = None

    async def start(self):
        await asyncio.to_thread(self._server.start)
        if self.gate is None:
            self.gate = Gate(self._server.url())
            await self.gate.open()
        self.gate.retarget(self._server.url())

    @property
    def direct_url(self):
        return self._server.url()

    def processes(self):
        pid = int((self._server.base / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def signal(self, number):
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    async def stop(self):
        await self.gate.shut()
        await asyncio.to_thread(self._server.stop)


class SmallDisk:
    """A file system of the spool's own, where root can make one; else a limit on the size of the APIs' files."""

    def __init__(self, folder, apis):
        self.folder, self._apis = folder, apis
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_DISK}", "tmpfs", str(folder)]
        self.mounted = os.getuid() == 0 and subprocess.run(mounting, capture_output=True, check=False).returncode == 0

    def fill(self):
        if not self.mounted:
            self._limit(4096)
            return
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(64 * 1024))

    def free(self):
        if self.mounted:
            (self.folder / "ballast").unlink(missing_ok=True)
        else:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size):
        for api in self._apis:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                resource.prlimit(api.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


class Faults:
    """One after the other, at random; each undoes itself."""

    def __init__(self, apis, database, disk, rng, *, longest, books):
        self._apis, self._database, self._disk, self._rng = apis, database, disk, rng
        self._books = books
        self._longest = longest
        self.done = Counter()
        self.seconds_away = 0.0

    async def run(self, *, seconds, least):
        """Until the time is over and there were enough of them."""
        kinds = [self.kill_api, self.kill_database, self.freeze_database, self.refuse, self.cut, self.fill_disk]
        deadline = time.monotonic() + seconds
        order = []
        while time.monotonic() < deadline or sum(self.done.values()) < least:
            await self._some_commits()
            await asyncio.sleep(self._rng.uniform(0.1, 1))
            # Each kind in turn, in a new order every time: none is left to chance.
            order = order or self._rng.sample(kinds, len(kinds))
            fault = order.pop()
            started = time.monotonic()
            await fault()
            self.done[fault.__name__] += 1
            if fault not in (self.kill_api, self.cut):
                self.seconds_away += time.monotonic() - started

    async def _some_commits(self):
        """Until events flow again, however slow the machine is; but not for ever, as that is the next fault's chance."""
        enough = self._books.answers["committed"] + 3
        for _ in range(600):
            if self._books.answers["committed"] >= enough:
                return
            await asyncio.sleep(0.05)

    async def _away(self):
        """Mostly short, sometimes long. An API may be killed meanwhile."""
        longest = self._longest * self._rng.random() ** 3
        await asyncio.sleep(longest / 2)
        if self._rng.random() < 0.2:
            await self.kill_api()
            self.done["kill_api"] += 1
        await asyncio.sleep(longest / 2)

    async def kill_api(self):
        self._rng.choice(self._apis).kill()

    async def kill_database(self):
        self._database.signal(signal.SIGKILL)
        await self._away()
        await self._database.start()

    async def freeze_database(self):
        self._database.signal(signal.SIGSTOP)
        try:
            await self._away()
        finally:
            self._database.signal(signal.SIGCONT)

    async def refuse(self):
        await self._database.gate.shut()
        await self._away()
        await self._database.gate.open()

    async def cut(self):
        self._database.gate.cut()

    async def fill_disk(self):
        self._disk.fill()
        await self.refuse()
        self._disk.free()
