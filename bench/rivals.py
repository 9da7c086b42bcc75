"""Time-series databases to compare ingest with, where their packages are installed: throwaway instances on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

READY_S = 30.0

_INFLUX = """
reporting-disabled = true
bind-address = "127.0.0.1:{other}"
[meta]
  dir = "{home}/meta"
[data]
  dir = "{home}/data"
  wal-dir = "{home}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A rival that runs. `durability`: what an answer of it means."""

    name: str
    port: int
    pid: int
    durability: str
    path: str


DURABILITY = {
    "influxdb": "the write-ahead log is synced to disk before the answer (wal-fsync-delay 0); no deduplication by id",
    "victoria-metrics": "buffered in memory, on disk some seconds after the answer; numbers only: texts that are no "
    "label are dropped; no deduplication by id",
}


@contextmanager
def rivals() -> Iterator[tuple[list[Rival], list[str]]]:
    """(those that run, names of those that are not installed)."""
    with TemporaryDirectory(prefix="bench-rivals-") as folder:
        running, missing, processes = [], [], []
        try:
            for name, binary in (("influxdb", "influxd"), ("victoria-metrics", "victoria-metrics")):
                found = shutil.which(binary)
                if found is None:
                    missing.append(name)
                    continue
                process, rival = _start(name, found, Path(folder) / name)
                processes.append(process)
                running.append(rival)
            yield running, missing
        finally:
            for process in processes:
                process.terminate()
                process.wait(READY_S)


def _start(name: str, binary: str, home: Path) -> tuple[subprocess.Popen[bytes], Rival]:
    home.mkdir()
    port, other = _free_port(), _free_port()
    if name == "influxdb":
        (home / "influxdb.conf").write_text(_INFLUX.format(home=home, port=port, other=other), encoding="utf-8")
        command, ask = [binary, "-config", str(home / "influxdb.conf")], "/ping"
    else:
        command = [binary, f"-storageDataPath={home}/data", f"-httpListenAddr=127.0.0.1:{port}"]
        ask = "/health"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    _wait(f"http://127.0.0.1:{port}{ask}", process)
    if name == "influxdb":
        urllib.request.urlopen(f"http://127.0.0.1:{port}/query?q=CREATE+DATABASE+bench", data=b"").close()
    path = "/write?db=bench&precision=ns"
    return process, Rival(name=name, port=port, pid=process.pid, durability=DURABILITY[name], path=path)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{url} does not answer") from None
            time.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
