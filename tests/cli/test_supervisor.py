"""Children: restarted, given up on, stopped in order, and bounded in what they write."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli.supervisor import ChildSpec, Patience, Supervisor
from store.deadlines import Deadlines
from store.errors import TollwatchError

QUICK = Patience(first_pause=0.01, longest_pause=0.02, output_check=0.05)
# Writes its name and pid when it starts; on SIGTERM its name and "stopped". A line is one write: others write to the file.
GOOD = """
import os, signal, sys
def say(words):
    os.write(1, f"{sys.argv[1]} {words}\\n".encode())
def stop(*_):
    say("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say(f"{os.getpid()} {os.getpgid(0)}")
while os.read(0, 1):
    pass
say("end of stdin")
"""
STUBBORN = GOOD.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
CRASHING = "import sys; print('all is lost'); sys.exit('tollwatch: error: no database')"


def spec(folder: Path, name: str, code: str, output: str | None = None) -> ChildSpec:
    command = (sys.executable, "-c", code, name)
    return ChildSpec(name=name, command=command, environ=dict(os.environ), output=folder / f"{output or name}.log")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what another process writes sets no event)
            await asyncio.sleep(0.01)


def written(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_children_are_stopped_in_order_each_in_a_session_of_its_own(tmp_path: Path) -> None:
    specs = [spec(tmp_path, name, GOOD, "all") for name in ("first", "second", "third")]
    supervisor = Supervisor(specs, deadlines=Deadlines(), patience=QUICK)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(written(tmp_path / "all.log")) == 3)
    await stop(running)
    lines = written(tmp_path / "all.log")
    assert all(pid == group for _, pid, group in lines[:3])
    assert lines[3:] == [["first", "stopped"], ["second", "stopped"], ["third", "stopped"]]


async def test_a_killed_child_comes_back_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pids: list[list[int]] = []
    specs = [spec(tmp_path, name, GOOD) for name in ("killed", "other")]
    supervisor = Supervisor(specs, deadlines=Deadlines(), patience=QUICK, on_start=pids.append)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(written(tmp_path / "killed.log")) == 1 and len(written(tmp_path / "other.log")) == 1)
    os.kill(int(written(tmp_path / "killed.log")[0][1]), 9)
    await until(lambda: len(written(tmp_path / "killed.log")) == 2)
    again, other = written(tmp_path / "killed.log")[1], written(tmp_path / "other.log")[0]
    assert sorted(pids[-1]) == sorted([int(again[1]), int(other[1])])
    await stop(running)
    assert "tollwatch: killed ended with signal SIGKILL; again in 0.01 s" in capsys.readouterr().err


async def test_a_child_that_keeps_crashing_stops_everything(tmp_path: Path) -> None:
    specs = [spec(tmp_path, "crashing", CRASHING), spec(tmp_path, "good", GOOD)]
    supervisor = Supervisor(specs, deadlines=Deadlines(), patience=QUICK)
    with pytest.raises(TollwatchError) as caught:
        await supervisor.run()
    assert str(caught.value) == (
        "crashing ended 5 times within 60 s, last with exit code 1: error: no database;"
        f" its output is in {tmp_path}/crashing.log"
    )
    assert len(written(tmp_path / "crashing.log")) == 10
    assert written(tmp_path / "good.log")[-1] == ["good", "stopped"]


async def test_crashes_far_apart_are_forgiven(tmp_path: Path) -> None:
    supervisor = Supervisor(
        [spec(tmp_path, "crashing", CRASHING)], deadlines=Deadlines(), patience=replace(QUICK, within=0)
    )
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(written(tmp_path / "crashing.log")) > 12)
    assert not running.done()
    await stop(running)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor([spec(tmp_path, "stubborn", STUBBORN)], deadlines=Deadlines(shutdown=0.1), patience=QUICK)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: len(written(tmp_path / "stubborn.log")) == 1)
    await stop(running)
    with pytest.raises(ProcessLookupError):
        os.kill(int(written(tmp_path / "stubborn.log")[0][1]), 0)


async def test_a_program_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    absent = replace(spec(tmp_path, "absent", ""), command=(str(tmp_path / "absent"),))
    with pytest.raises(FileNotFoundError):
        await Supervisor([absent], deadlines=Deadlines(), patience=QUICK).run()


async def test_output_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.supervisor._OUTPUT_MAX", 10_000)
    code = "import os\nprint('x' * 20_000, flush=True)\nos.read(0, 1)"
    running = asyncio.create_task(
        Supervisor([spec(tmp_path, "chatty", code)], deadlines=Deadlines(), patience=QUICK).run()
    )
    older = tmp_path / "chatty.log.1"
    await until(lambda: older.exists() and (tmp_path / "chatty.log").stat().st_size == 0)
    assert older.stat().st_size == 20_001
    await stop(running)
