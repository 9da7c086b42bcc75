"""Starts the product's processes as an operator does, and talks to them only from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from store.deadlines import Deadlines
from store.settings import Settings
from store.startup import prepare_sandbox
from tests.databases import ROOT
from tests.ports import free_ports

T = TypeVar("T")
DEV_KEY = {"Authorization": "Bearer tollwatch-dev"}


def until(ask: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer of `ask`; AssertionError with the last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: still {answer!r} after {seconds} s"
        # Not a wait for a result but between two questions.
        signal.sigtimedwait([], 0.05)


class Process:
    """One child process with its output in a file, stopped at the end whatever happens."""

    def __init__(self, name: str, arguments: list[str], folder: Path, **environ: str) -> None:
        self.log = folder / f"{name}.log"
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TOLLWATCH_")}
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**clean, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM, then the exit code; killed when it does not end."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def status_of(url: str) -> int:
    """The status of a GET; 0 where nobody listens."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


class Rpc:
    """A client of the chain that shares no code with Tollwatch."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def __call__(self, method: str, *params: object) -> object:
        answer = self.http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        body = answer.raise_for_status().json()
        assert "error" not in body, body
        return body["result"]

    def close(self) -> None:
        self.http.close()


class Product:
    """Sandbox, API and collector, each a process, on a database of the test's own."""

    def __init__(self, database_url: str, folder: Path, *sandbox: str, **environ: str) -> None:
        asyncio.run(prepare_sandbox(Settings(database_url=database_url, sandbox=True), Deadlines()))
        api, chain = free_ports(2), free_ports(4)
        self.url, self.chain = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{chain}"
        self.collector_url = f"http://127.0.0.1:{api + 1}"
        common = {
            "TOLLWATCH_DATABASE_URL": database_url,
            "TOLLWATCH_PORT": str(api),
            "TOLLWATCH_COLLECTOR_PORT": str(api + 1),
            "TOLLWATCH_SANDBOX": "true",
            "TOLLWATCH_RPC_URLS": self.chain,
            "TOLLWATCH_SAMPLE_INTERVAL": "1s",
            "TOLLWATCH_METRICS_INTERVAL": "1s",
            "TOLLWATCH_HOME": str(folder),
            **environ,
        }
        world = ["sandbox", "--port", str(chain), "--tollwatch-url", self.url, *sandbox]
        self.processes = [
            Process("sandbox", world, folder),
            Process("api", ["cli", "api"], folder, **common),
            Process("collector", ["cli", "collector"], folder, **common),
        ]

    def __enter__(self) -> Product:
        try:
            until(lambda: status_of(f"{self.url}/readyz") == 200, 60, "the API is ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        codes = [process.stop() for process in self.processes]
        assert codes == [0, 0, 0], [process.text()[-1000:] for process in self.processes]

    def books(self) -> dict[str, Any]:
        """What the sandbox knows to be true."""
        found: dict[str, Any] = httpx.get(f"{self.chain}/books", timeout=10, trust_env=False).json()
        return found

    def client(self) -> httpx.Client:
        """A client with the sandbox's key."""
        return httpx.Client(base_url=self.url, headers=DEV_KEY, timeout=20, trust_env=False)


def listed(http: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    items: list[dict[str, Any]] = []
    while True:
        response = http.get(path, params=params)
        assert response.status_code == 200, response.text
        answer = response.json()
        items += answer["items"]
        if answer["next"] is None:
            return items
        params["cursor"] = answer["next"]
