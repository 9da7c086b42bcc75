"""The database servers that the suite runs on: found at collection, started when a test first needs them.

Every test that asks for `database_url` runs once per server: the embedded PostgreSQL (`plain`), every local PostgreSQL
that has TimescaleDB (`community` or `apache`, as throwaway clusters; a community build can play the other), and each URL
in TOLLWATCH_TEST_DATABASE_URLS.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from store.deadlines import Deadlines
from store.embedded import PostgresServer, bundled_bin_dir
from store.errors import EmbeddedDatabaseError
from store.settings import Settings

EDITIONS = ("plain", "apache", "community")
URLS_VARIABLE = "TOLLWATCH_TEST_DATABASE_URLS"
ROOT = Path(__file__).parent.parent

_ROOM = 4 * 1024**3
# A crash of a throwaway cluster loses nothing that anyone misses.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_worker_processes": "16",
}
# No background workers: native jobs run when a test runs them, and never hold a session on a template.
_TIMESCALE_SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "0",
}
# Runs beside pytest and tidies up when the pipe to it closes: at the session's end, or when pytest is killed.
_JANITOR = """
import shutil, sys
from pathlib import Path
sys.stdin.read()
from store.deadlines import Deadlines
from store.embedded import PostgresServer
home, bin_dir = map(Path, sys.argv[1:])
server = PostgresServer(home, bin_dir=bin_dir, deadlines=Deadlines(embedded_stop=5))
base = server.base
try:
    server.stop()
finally:
    shutil.rmtree(base, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A server that can be used: binaries to start, or the URL of one that runs."""

    edition: str
    version: str
    bin_dir: Path | None = None
    url: str | None = None

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]


@dataclass(kw_only=True)
class Server:
    """One server under test. `admin_url` starts it; databases are named uniquely, so runs can share a server."""

    id: str
    edition: str
    found: Found
    _admin_url: str | None = None
    _template: str | None = None
    _janitor: subprocess.Popen[bytes] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def timescale(self) -> bool:
        return self.edition != "plain"

    @property
    def admin_url(self) -> str:
        """A superuser's (or owner's) URL of the maintenance database."""
        with self._lock:
            if self._admin_url is None:
                self._admin_url = self.found.url or self._start()
            return self._admin_url

    def url(self, database: str) -> str:
        """The URL of another database on this server."""
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{database}"))

    def create(self, *, template: str | None = None, tablespace: sql.Identifier | None = None) -> str:
        """Make a database, empty (with the extension, where there is one) or a clone; its name."""
        name = f"tw_{os.getpid()}_{secrets.token_hex(4)}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
        if tablespace is not None:
            statement += sql.SQL(" TABLESPACE {}").format(tablespace)
        self.execute(statement)
        if template is None and self.timescale:
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        return name

    @property
    def template(self) -> str:
        """A migrated database to clone; the first call makes it."""
        with self._lock:
            if self._template is None:
                self._template = self._make_template()
            return self._template

    def clone(self) -> str:
        """Make a migrated database; its name."""
        return self.create(template=self.template)

    def drop(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """Drop the template; stop and remove a cluster of ours."""
        if self._template is not None and self.found.url is not None:
            self.drop(self._template)
        if self._janitor is not None:
            self._janitor.communicate(timeout=60)
        self._template = self._admin_url = self._janitor = None

    def execute(self, statement: sql.Composable) -> None:
        """A statement in the maintenance database, again while somebody still holds what it needs."""
        deadline = time.monotonic() + 10
        while True:
            try:
                with psycopg.connect(self.admin_url, autocommit=True) as connection:
                    connection.execute(statement)
                return
            except psycopg.errors.ObjectInUse:
                # A native job's session on the template: it ends by itself.
                if time.monotonic() > deadline:
                    raise

    def _make_template(self) -> str:
        from store.migrate import upgrade  # noqa: PLC0415 (it brings Alembic; most runs of a few tests need neither)

        name = self.create()
        settings = Settings(database_url=self.url(name))
        # In a thread of its own: the caller's thread belongs to pytest-asyncio's loop.
        with ThreadPoolExecutor(1) as executor:
            executor.submit(lambda: asyncio.run(upgrade(settings, Deadlines()))).result()
        # Nobody may connect from now on: a template with a session on it cannot be cloned.
        self.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        self.execute(sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(name))
        return name

    def _start(self) -> str:
        assert self.found.bin_dir is not None
        home = traversable_folder()
        command = [sys.executable, "-c", _JANITOR, str(home), str(self.found.bin_dir)]
        # In a session of its own, so that Ctrl-C in the terminal leaves it its work to do.
        self._janitor = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)
        settings = _SETTINGS | (_TIMESCALE_SETTINGS if self.timescale else {})
        if self.edition == "apache":
            settings |= {"timescaledb.license": "apache"}
        server = PostgresServer(home, bin_dir=self.found.bin_dir, deadlines=Deadlines(), settings=settings)
        server.start()
        return server.url("postgres")


def traversable_folder() -> Path:
    """A new temporary folder that another account can enter (pytest's own tmp_path has mode 0700).

    In memory where there is plenty: cloning a database makes a thousand files, 15 ms there and 200 ms on a disk.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    folder = Path(tempfile.mkdtemp(prefix="tw-", dir=memory if roomy else None))
    folder.chmod(0o755)
    return folder


def find_servers() -> list[Server]:
    """Every server on this machine, nothing started; ids are the editions, told apart where they repeat."""
    found = [*_embedded(), *_local_timescale(), *map(_from_url, _urls())]
    if not any(item.edition == "apache" for item in found):
        # With this licence set, a community build refuses all that an Apache-2 build lacks, with the same SQLSTATE.
        found += [replace(item, edition="apache") for item in found if item.edition == "community" and item.bin_dir][:1]
    servers = [Server(id=item.edition, edition=item.edition, found=item) for item in found]
    for suffix in (lambda server, _: f"pg{server.found.major}", lambda _, number: str(number)):
        counts = Counter(server.id for server in servers)
        seen: Counter[str] = Counter()
        for number, server in enumerate(servers):
            if counts[server.id] > 1:
                seen[server.id] += 1
                servers[number] = replace(server, id=f"{server.id}-{suffix(server, seen[server.id])}")
    return servers


def report(servers: list[Server]) -> list[str]:
    """Lines for pytest's header."""
    lines = [f"database {server.id}: {_describe(server.found)}" for server in servers]
    missing = [edition for edition in EDITIONS if edition not in {server.edition for server in servers}]
    return [*lines, f"database editions not found here: {', '.join(missing) or 'none'}"]


def _describe(found: Found) -> str:
    where = str(found.bin_dir) if found.bin_dir else urlsplit(found.url or "").hostname
    return f"PostgreSQL {found.version} ({where})"


def _embedded() -> list[Found]:
    try:
        bin_dir = bundled_bin_dir()
    except EmbeddedDatabaseError:
        return []
    return [Found(edition="plain", version=_version(bin_dir), bin_dir=bin_dir)]


def _local_timescale() -> list[Found]:
    folders = ["/usr/local/pgsql/bin", *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    if shutil.which("pg_config"):
        folders.append(_output(["pg_config", "--bindir"]))
    real = dict.fromkeys((Path(folder) / "postgres").resolve().parent for folder in folders)
    return [found for folder in real if (found := _timescale_in(folder)) is not None]


def _timescale_in(bin_dir: Path) -> Found | None:
    """What the files say: the library of the TSL part is absent from Apache-2 builds."""
    if not (bin_dir / "initdb").exists() or not (bin_dir / "pg_config").exists():
        return None
    extension = Path(_output([bin_dir / "pg_config", "--sharedir"])) / "extension" / "timescaledb.control"
    if not extension.exists():
        return None
    version = re.search(r"default_version\s*=\s*'([^']+)'", extension.read_text())
    assert version is not None, extension
    library = Path(_output([bin_dir / "pg_config", "--pkglibdir"])) / f"timescaledb-tsl-{version[1]}"
    tsl = any(library.with_name(library.name + end).exists() for end in (".so", ".dylib"))
    return Found(
        edition="community" if tsl else "apache",
        version=f"{_version(bin_dir)} + TimescaleDB {version[1]}",
        bin_dir=bin_dir,
    )


def _version(bin_dir: Path) -> str:
    return _output([bin_dir / "postgres", "--version"]).removeprefix("postgres (PostgreSQL) ").split()[0]


def _output(command: list[str | Path]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _urls() -> list[str]:
    return [url.strip() for url in os.environ.get(URLS_VARIABLE, "").split(",") if url.strip()]


def _from_url(url: str) -> Found:
    """Ask a server that runs. The licence shows only in a database with the extension, so one is made and dropped."""
    server = Server(id="", edition="plain", found=Found(edition="", version="", url=url))
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        version = connection.execute("SHOW server_version").fetchone()[0].split()[0]
        preloaded = connection.execute(
            "SELECT current_setting('shared_preload_libraries') ~ 'timescaledb'"
            " AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
        ).fetchone()[0]
    if not preloaded:
        return Found(edition="plain", version=version, url=url)
    server.edition = "apache"
    name = server.create()
    try:
        with psycopg.connect(server.url(name)) as connection:
            edition, timescale = connection.execute(
                "SELECT CASE current_setting('timescaledb.license', true) WHEN 'timescale' THEN 'community'"
                " ELSE 'apache' END, extversion FROM pg_extension WHERE extname = 'timescaledb'"
            ).fetchone()
    finally:
        server.drop(name)
    return Found(edition=edition, version=f"{version} + TimescaleDB {timescale}", url=url)
