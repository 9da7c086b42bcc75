"""The home: one `up` at a time; orphans are told from strangers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.home import claimed, end_orphans, fingerprint, orphans, record_children
from store.errors import StartRefused

SLEEPER = "import os; print('up', flush=True); os.read(0, 1)"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SLEEPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_home_is_claimed_by_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with claimed(home), pytest.raises(StartRefused, match=rf"already runs for .*home \(pid {os.getpid()}\)"):
        claimed(home).__enter__()
    with claimed(home):
        pass


def test_recorded_children_are_orphans_until_they_end(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    assert orphans(tmp_path) == []
    record_children(tmp_path, [child.pid])
    assert orphans(tmp_path) == [child.pid]
    child.kill()
    child.wait()
    assert orphans(tmp_path) == []


def test_a_process_with_a_reused_number_is_a_stranger(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    boot, _, ticks = fingerprint(child.pid).partition(" ")
    for other in (f"{boot} {int(ticks) + 1}", f"another-boot {ticks}", ""):
        (tmp_path / "children.json").write_text(json.dumps({str(child.pid): other}))
        assert orphans(tmp_path) == []


def test_a_damaged_record_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "children.json").write_text("{half")
    assert orphans(tmp_path) == []


async def test_orphans_are_ended(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    record_children(tmp_path, [child.pid])
    await end_orphans(tmp_path, grace=5)
    assert child.wait(1) == -15


def test_children_that_cannot_be_recorded_still_run(tmp_path: Path) -> None:
    record_children(tmp_path / "absent", [os.getpid()])
    assert not (tmp_path / "absent").exists()
