"""Starts the product's processes as an operator does, and talks to them only from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx

from tests.databases import ROOT

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


def free_ports(count: int) -> int:
    """The first of `count` consecutive free ports on loopback."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for step in range(1, count):
                    stack.enter_context(socket.create_server(("127.0.0.1", first + step)))
            except OSError:
                continue
            return first


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
