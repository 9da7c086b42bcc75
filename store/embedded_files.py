"""What the embedded server's own files say: postmaster.pid, and its log."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LOG_KEPT = 32 * 1024**2
_TAIL = 65536


@dataclass(frozen=True, kw_only=True)
class Postmaster:
    """What postmaster.pid says: a process, and the TCP port (0 until it is known)."""

    pid: int
    port: int

    @classmethod
    def read(cls, data: Path) -> Postmaster | None:
        """The file in `data`; None when there is none or it is not written yet."""
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
            return cls(pid=int(lines[0]), port=int(lines[3]) if len(lines) > 3 else 0)
        except (FileNotFoundError, ValueError, IndexError):
            return None

    def lives(self, data: Path) -> bool:
        """Whether that process is the postmaster of `data`, and not one that was given the same number later."""
        return os.fsencode(data) in command_line(self.pid)

    @property
    def number_in_use(self) -> bool:
        """Whether any process has that number, and would keep PostgreSQL from starting."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def command_line(pid: int) -> bytes:
    """The command of a process and its arguments; empty when there is no such process, or only its zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        if Path("/proc/self").exists():
            return b""
    listing = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(listing, capture_output=True, check=False).stdout  # noqa: S603 (no shell)


def log_sizes(base: Path) -> dict[Path, int]:
    """Bytes of each log file."""
    return {path: path.stat().st_size for path in (base / "log").glob("*.log")}


def written_since(base: Path, before: Mapping[Path, int]) -> str:
    """What the log has gained, at most the last 64 kB of each file."""
    text = ""
    for path, size in log_sizes(base).items():
        with path.open("rb") as file:
            file.seek(max(before.get(path, 0), size - _TAIL))
            text += file.read(_TAIL).decode(errors="replace")
    return text


def prune_logs(base: Path) -> None:
    """A start appends to its hour's file, so a server that never sees the hour change must be pruned here."""
    kept = 0
    for path in sorted((base / "log").glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True):
        kept += path.stat().st_size
        if kept > _LOG_KEPT:
            path.unlink()


def failure(output: str) -> str | None:
    """The last FATAL or PANIC of the server's own words."""
    found = re.findall(r"(?:FATAL|PANIC):\s+(.+)", output)
    return found[-1] if found else None


def last_line(text: str) -> str:
    """The last line that speaks of an error, or simply the last."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"error|could not|fatal", line, re.IGNORECASE)]
    return (lines or text.strip().splitlines() or ["no reason was given"])[-1]
