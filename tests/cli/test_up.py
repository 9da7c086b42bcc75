"""`tollwatch up` as a process: what it starts, what it refuses, what it leaves behind. Its children are stand-ins."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from cli.home import orphans
from cli.plan import make_plan
from cli.up import wait_ready
from store.deadlines import Deadlines
from store.embedded import PostgresServer, bundled_bin_dir, running_url
from store.errors import TollwatchError
from store.settings import Settings
from tests.databases import ROOT, traversable_folder


class Up:
    """One `up` at a time, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_ports(2)
        self.processes: list[subprocess.Popen[str]] = []

    def environ(self, **variables: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWATCH_")}
        ours |= {"TOLLWATCH_HOME": str(self.home), "TOLLWATCH_PORT": str(self.port)}
        return ours | {"TOLLWATCH_RPC_URLS": "http://127.0.0.1:1"} | variables

    def start(self, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.cli.stand_in", "up"]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=ROOT, env=self.environ(**variables), start_new_session=True, **pipes)
        self.processes.append(process)
        return process

    def ready(self) -> subprocess.Popen[str]:
        """An `up` that has said what runs; the lines are in `news`."""
        process = self.start()
        self.news = ""
        while "Ctrl-C" not in self.news:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            self.news += line
        return process

    def ask(self, step: int = 0) -> str | None:
        """The pid of the child that answers on a port, None when none does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port + step, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except OSError:
            return None
        finally:
            connection.close()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=20)
        server = PostgresServer(self.home, bin_dir=bundled_bin_dir(), deadlines=Deadlines())
        base = server.base
        server.stop()
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(self.home.parent)


def free_ports(count: int) -> int:
    """The first of `count` neighbours that are free now, below the range of outgoing connections."""
    for first in range(13_000 + os.getpid() % 1000 * 5, 20_000):
        probes = [socket.socket() for _ in range(count)]
        try:
            for step, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + step))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no free ports")


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    made = Up(traversable_folder() / "home")
    yield made
    made.close()


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_it_starts_everything_says_so_and_sigterm_stops_it(up: Up) -> None:
    process = up.ready()
    assert f"http://127.0.0.1:{up.port} " in up.news
    assert f"embedded PostgreSQL in {up.home}" in up.news
    url = running_url(up.home)
    assert url is not None
    password = url.split(":")[2].partition("@")[0]
    assert password not in up.news
    assert up.ask(0) != up.ask(1) is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert process.stderr.read() == "stopping …\n"
    assert up.ask(0) is None is up.ask(1)
    assert running_url(up.home) is None


def test_a_second_start_is_fast_and_keeps_the_data_and_ctrl_c_stops_it(up: Up) -> None:
    first = up.ready()
    rows(running_url(up.home), "CREATE TABLE kept AS SELECT 42 AS n")
    first.terminate()
    assert first.wait(20) == 0
    began = time.monotonic()
    process = up.ready()
    assert time.monotonic() - began < 5
    assert rows(running_url(up.home), "SELECT n FROM kept") == [(42,)]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert running_url(up.home) is None


def test_a_second_up_is_refused_with_the_pid_of_the_first(up: Up) -> None:
    first = up.ready()
    second = up.start()
    assert second.wait(20) == 1
    message = second.stderr.read()
    assert message.count("\n") == 1
    assert f"already runs for {up.home} (pid {first.pid})" in message
    assert first.poll() is None
    assert up.ask()
    first.terminate()
    assert first.wait(20) == 0


def test_a_crashed_child_is_restarted_and_reported(up: Up) -> None:
    process = up.ready()
    pid = up.ask(0)
    other = up.ask(1)
    os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: up.ask(0) not in (None, pid))
    assert up.ask(1) == other
    process.terminate()
    assert process.wait(20) == 0
    assert (
        f"api ended with signal SIGKILL; again in 0.25 s (its output: {up.home}/log/api.log)" in process.stderr.read()
    )
    assert f"stand-in {pid} listens on {up.port}\n" in (up.home / "log" / "api.log").read_text()


def test_children_that_keep_crashing_end_it_with_everything_stopped(up: Up) -> None:
    process = up.start(TOLLWATCH_TEST_CRASH="1")
    assert process.wait(30) == 1
    last = process.stderr.read().splitlines()[-1]
    assert re.fullmatch(
        r"tollwatch: (\w+) ended 5 times within 60 s, last with exit code 1: error: \1 is broken;"
        rf" its output is in {re.escape(str(up.home))}/log/\1\.log",
        last,
    )
    assert process.stdout.read() == ""
    assert running_url(up.home) is None


def test_an_api_that_is_never_ready_is_reported() -> None:
    first = free_ports(6)
    plan = make_plan(Settings(port=first), {}, sandbox_port=first + 2)
    with pytest.raises(
        TollwatchError, match=r"not ready within 0 s: the API \(no answer: .*; output is in .tollwatch/log"
    ):
        asyncio.run(wait_ready(plan, 0.1))


def test_after_kill_9_the_children_end_and_the_next_up_goes_on(up: Up) -> None:
    first = up.ready()
    rows(running_url(up.home), "CREATE TABLE committed AS SELECT 42 AS n")
    os.kill(first.pid, signal.SIGKILL)
    first.wait(20)
    # No pause: orphans may still be on their ports, and PostgreSQL still runs.
    process = up.ready()
    assert rows(running_url(up.home), "SELECT n FROM committed") == [(42,)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    wait_until(lambda: not orphans(up.home))
    assert up.ask(0) is None is up.ask(1)
    final = up.ready()
    final.terminate()
    assert final.wait(20) == 0
    assert running_url(up.home) is None


def test_a_frozen_orphan_is_killed_but_a_reused_pid_is_not_touched(up: Up) -> None:
    first = up.ready()
    frozen = int(up.ask(0))
    os.kill(frozen, signal.SIGSTOP)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(20)
    record = up.home / "children.json"
    record.write_text(record.read_text().replace("{", f'{{"{os.getpid()}": "1 somebody else", ', 1))
    assert frozen in orphans(up.home)
    assert os.getpid() not in orphans(up.home)
    process = up.ready()
    assert up.ask(0) != str(frozen)
    process.terminate()
    assert process.wait(20) == 0
