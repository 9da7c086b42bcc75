"""The product with its sandbox, as a person starts it, and a browser to look at its page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.browser.chromium import FLAGS, Browser
from tests.databases import ROOT, traversable_folder
from tests.e2e.stack import DEV_KEY, Process, status_of, until
from tests.ports import free_ports
from tests.programs import tool

ELSEWHERE = "tollwatch.test"
"""A name of this machine that is no loopback name."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """`tollwatch up`, running."""

    base: str
    home: Path
    log: Path

    @property
    def elsewhere(self) -> str:
        """The same by a name that does not say loopback."""
        return self.base.replace("127.0.0.1", ELSEWHERE)

    def ask(self, path: str, key: dict[str, str] = DEV_KEY, **params: object) -> list[dict]:
        """The items of a list."""
        try:
            answer = httpx.get(f"{self.base}{path}", headers=key, params=params, timeout=10, trust_env=False)
        except httpx.TransportError as exc:
            raise AssertionError(f"{path}: {exc!r}; the product said {self.log.read_text()[-3000:]}") from exc
        return answer.raise_for_status().json()["items"]

    def make_key(self, project: str, scopes: str) -> str:
        """A key, made as an operator makes one."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TOLLWATCH_")}
        command = [sys.executable, "-m", "cli", "keys", "create", "page", "--project", project, "--scopes", scopes]
        environ = {**clean, "TOLLWATCH_HOME": str(self.home)}
        made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
        return next(word for word in made.stdout.split() if word.startswith("tw_"))


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """Started once, when agents have paid and a balance of each is known."""
    folder = traversable_folder()
    port, chain = free_ports(2), free_ports(4)
    made = Product(base=f"http://127.0.0.1:{port}", home=folder / "home", log=folder / "up.log")
    arguments = ["cli", "up", "--port", str(port), "--sandbox-port", str(chain)]
    process = Process("up", arguments, folder, TOLLWATCH_HOME=str(made.home))
    try:
        until(lambda: process.popen.poll() is not None or status_of(f"{made.base}/readyz") == 200, 120, "it is ready")
        assert process.popen.poll() is None, process.text()[-3000:]
        until(lambda: len(made.ask("/v1/payments", status="settled")) >= 5, 60, "payments")
        until(lambda: {b["agent"] for b in made.ask("/v1/balances")} >= {"scout", "oracle"}, 60, "balances")
        yield made
    finally:
        process.stop(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    folder = traversable_folder()
    program = tool("chromium", "chromium-browser", "google-chrome")
    started = Browser(program, folder, (*FLAGS, f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"))
    yield started
    started.close()
    shutil.rmtree(folder, ignore_errors=True)
