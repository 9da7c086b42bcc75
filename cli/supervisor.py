"""Child processes that are started together, restarted when they crash, and stopped in order.

Every child gets a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone, and a pipe as stdin
whose end it must take for the supervisor's death (cli.lifeline). Its output goes to a file, not through us: a
supervisor that is slow or gone never blocks a child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from store.deadlines import Deadlines
from store.embedded_files import last_line
from store.errors import TollwatchError

_OUTPUT_MAX = 8 * 1024**2


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """One child: what to run, with which environment, and the file that gets its output."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    output: Path


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How crashes are met. Seconds."""

    first_pause: float = 0.25
    longest_pause: float = 8.0
    crashes: int = 5
    within: float = 60.0
    output_check: float = 10.0


class Supervisor:
    """Runs children. `on_start` is told the processes that live, after every start."""

    def __init__(
        self,
        specs: list[ChildSpec],
        *,
        deadlines: Deadlines,
        patience: Patience | None = None,
        on_start: Callable[[list[int]], None] = lambda _pids: None,
    ) -> None:
        self._specs = specs
        self._deadlines = deadlines
        self._patience = patience or Patience()
        self._on_start = on_start
        self._processes: dict[str, Process] = {}

    async def run(self) -> None:
        """Start all children at once and keep them running; stops them all, in order, however this ends.

        Raises TollwatchError when a child crashes time after time. Returns only by being cancelled.
        """
        tasks = [asyncio.create_task(self._keep(spec)) for spec in self._specs]
        tasks.append(asyncio.create_task(self._bound_output()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()

    async def _keep(self, spec: ChildSpec) -> None:
        crashes: deque[float] = deque(maxlen=self._patience.crashes)
        pause = self._patience.first_pause
        while True:
            process = await self._start(spec)
            began = time.monotonic()
            code = await process.wait()
            crashes.append(time.monotonic())
            if len(crashes) == crashes.maxlen and crashes[-1] - crashes[0] < self._patience.within:
                raise TollwatchError(
                    f"{spec.name} ended {len(crashes)} times within {self._patience.within:.0f} s, last with"
                    f" {_outcome(code)}: {_last_words(spec.output)}; its output is in {spec.output}"
                )
            if crashes[-1] - began > self._patience.within:
                pause = self._patience.first_pause
            _say(f"{spec.name} ended with {_outcome(code)}; again in {pause:g} s (its output: {spec.output})")
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._patience.longest_pause)

    async def _start(self, spec: ChildSpec) -> Process:
        with spec.output.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(spec.environ),
                start_new_session=True,
            )
        self._processes[spec.name] = process
        self._on_start([process.pid for process in self._processes.values() if process.returncode is None])
        return process

    async def _stop(self) -> None:
        for spec in self._specs:
            process = self._processes.get(spec.name)
            if process is not None and process.returncode is None:
                await stop_process(process, grace=self._deadlines.shutdown)

    async def _bound_output(self) -> None:
        """Keep each output file, and one older part of it, below a size. Children append, so cutting is safe."""
        while True:
            for spec in self._specs:
                if spec.output.exists() and spec.output.stat().st_size > _OUTPUT_MAX:
                    shutil.copyfile(spec.output, spec.output.with_suffix(".log.1"))
                    os.truncate(spec.output, 0)
            await asyncio.sleep(self._patience.output_check)


async def stop_process(process: Process, *, grace: float) -> None:
    """SIGTERM, `grace` seconds, then SIGKILL to the child and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    # Not asyncio.timeout: before Python 3.11.3 it ends no wait in a task that was cancelled already, as ours was.
    ended = asyncio.ensure_future(process.wait())
    if not (await asyncio.wait({ended}, timeout=grace))[0]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await ended


def _outcome(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_words(output: Path) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - 4096))
        return last_line(file.read().decode(errors="replace")).removeprefix("tollwatch: ")


def _say(message: str) -> None:
    print(f"tollwatch: {message}", file=sys.stderr, flush=True)
