"""A real disk that is small and can be filled and freed: a tmpfs that holds one database of a server under test."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.databases import Server, traversable_folder

SIZE = 96 * 1024**2


class SmallDisk:
    """A mounted file system. `fill` leaves no byte free; `free` gives all of it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Until the kernel says ENOSPC."""
        chunk = bytes(4096)
        with self._ballast.open("ab", buffering=0) as file:
            for size in (256, 1):
                with contextlib.suppress(_Full):
                    while True:
                        _write(file.fileno(), chunk * size)
        assert shutil.disk_usage(self.folder).free == 0

    def free(self) -> None:
        """Room again."""
        self._ballast.unlink()


class _Full(Exception):
    pass


def _write(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        raise _Full from exc


@contextlib.contextmanager
def small_disk(server: Server, *, template: str | None) -> Iterator[tuple[SmallDisk, str]]:
    """The disk, and the URL of a database on it: a clone of the template, or an empty one. Needs root, to mount."""
    data = _data_directory(server)
    if data is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk under the server needs root, and a server on this machine")
    folder = traversable_folder()
    mounted = folder / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tollwatch", mounted], check=True)
    try:
        space = mounted / "space"
        space.mkdir(mode=0o700)
        mounted.chmod(0o755)
        owner = data.stat()
        os.chown(space, owner.st_uid, owner.st_gid)
        with _database(server, space, template) as url:
            yield SmallDisk(mounted), url
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)
        shutil.rmtree(folder)


def _data_directory(server: Server) -> Path | None:
    """Where it is on this machine; None: it runs elsewhere. Its own process is looked for while it is there."""
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        path = Path(connection.execute("SHOW data_directory").fetchone()[0])
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        return path if path.exists() and Path(f"/proc/{pid}").exists() else None


@contextlib.contextmanager
def _database(server: Server, space: Path, template: str | None) -> Iterator[str]:
    tablespace = sql.Identifier(f"small_{os.getpid()}")
    server.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(tablespace, sql.Literal(str(space))))
    try:
        name = server.create(template=template, tablespace=tablespace)
        try:
            yield server.url(name)
        finally:
            server.drop(name)
    finally:
        server.execute(sql.SQL("DROP TABLESPACE {}").format(tablespace))
