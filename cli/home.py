"""The home folder's part in `up`: one supervisor at a time, and no orphans of an earlier one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import StartRefused

LOGS = "log"
_LOCK = "up.lock"
_CHILDREN = "children.json"


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Hold the home for one `up`. Raises StartRefused with the other's pid when it is held already."""
    try:
        descriptor = _lock(home)
    except OSError as exc:
        raise StartRefused(f"cannot use {home} ({exc.strerror}): TOLLWATCH_HOME names another folder") from exc
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(home: Path) -> int:
    (home / LOGS).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode().strip() or "unknown"
        os.close(descriptor)
        raise StartRefused(
            f"`tollwatch up` already runs for {home} (pid {holder}):"
            " stop it first, or set TOLLWATCH_HOME to another folder"
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def fingerprint(pid: int) -> str:
    """What tells a process from a later one with the same number: when it started. Empty when there is none.

    Not its command: right after a start that still reads as empty, and the record would be worthless.
    """
    try:
        # Fields from the third on: the second, a name, may hold spaces and parentheses. A zombie has ended.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        if Path("/proc/self").exists():
            return ""
    else:
        return "" if state in "ZX" else f"{boot} {fields[18]}"
    listing = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(listing, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


def record_children(home: Path, pids: list[int]) -> None:
    """Remember which processes are ours, for the `up` that comes after a kill -9 of this one."""
    temporary = home / f"{_CHILDREN}.new"
    # A full disk must not bring down children that run: without the record, they still end with their stdin.
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps({str(pid): fingerprint(pid) for pid in pids}))
        temporary.replace(home / _CHILDREN)


def orphans(home: Path) -> list[int]:
    """Children of an earlier `up` that still live. The lock must be held: else they may have a living parent."""
    try:
        recorded: dict[str, str] = json.loads((home / _CHILDREN).read_text())
    except (OSError, ValueError):
        return []
    return [int(pid) for pid, mark in recorded.items() if mark and fingerprint(int(pid)) == mark]


async def end_orphans(home: Path, *, grace: float) -> None:
    """They end by themselves when their stdin does; after SIGTERM and `grace` seconds they are killed."""
    _signal(orphans(home), signal.SIGTERM)
    deadline = time.monotonic() + grace
    while left := orphans(home):
        if time.monotonic() > deadline:
            _signal(left, signal.SIGKILL)
            deadline += grace
        await asyncio.sleep(0.05)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
