"""The command line: exit codes, and one line for whatever is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cli import commands
from cli.main import main
from store.errors import InvalidValue
from store.settings import Settings, describe
from tests.cli.test_up import free_ports
from tests.databases import ROOT, Server


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs the tests, and an empty folder to be in."""
    for name in [name for name in os.environ if name.startswith("TOLLWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def stub(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    """A module with these members, whether the real one is there or not."""
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, child = name.rpartition(".")
    monkeypatch.setattr(f"{parent}.{child}", module, raising=False)


def refusal(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 1) -> str:
    """Run a command that is refused; its one line."""
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tollwatch: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("command", ["up", "api", "collector", "migrate"])
def test_an_unknown_variable_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TOLLWATCH_PROT", "8402")
    assert "TOLLWATCH_PROT is not a setting; did you mean TOLLWATCH_PORT?" in refusal(capsys, command)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "TOLLWATCH_DATABASE_URL must be postgresql://"),
        ("postgresql://me:hidden@127.0.0.1:1/nothing", "the database does not answer"),
    ],
)
@pytest.mark.parametrize("command", ["up", "migrate"])
def test_a_wrong_or_unreachable_database_is_refused(
    url: str,
    message: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", url)
    said = refusal(capsys, command)
    assert message in said
    assert "hidden" not in said
    assert not list(tmp_path.iterdir())


def test_a_wrong_password_is_refused(
    plain_server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", plain_server.url("postgres").replace("tollwatch:", "tollwatch:x"))
    assert "password authentication failed" in refusal(capsys, "up")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["api"], ["collector"], ["migrate"], ["db", "url"]])
def test_without_any_database_the_line_says_what_to_do(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "set TOLLWATCH_DATABASE_URL, or run `tollwatch up`" in refusal(capsys, *command)


def test_production_needs_a_chain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "set TOLLWATCH_RPC_URLS" in refusal(capsys, "up", "--no-sandbox")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("offset", "what", "setting"),
    [
        (0, "the API", "TOLLWATCH_PORT"),
        (1, "the collector's metrics", "TOLLWATCH_COLLECTOR_PORT"),
        (2, "the sandbox's chain", "--sandbox-port"),
        (3, "the sandbox's facilitator", "--sandbox-port"),
        (4, "the sandbox's market", "--sandbox-port"),
    ],
)
def test_a_taken_port_is_refused_before_anything_is_touched(
    offset: int, what: str, setting: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first = free_ports(6)
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", first + offset))
        taker.listen()
        said = refusal(capsys, "up", "--port", str(first), "--sandbox-port", str(first + 2))
    assert f"port {first + offset} for {what} is in use" in said
    assert setting in said
    assert not list(tmp_path.iterdir())


def test_ports_of_ours_that_collide_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "up", "--port", "8900", "--sandbox-port", "8899")
    assert "port 8900 would serve both the API and the sandbox's facilitator" in said
    assert "port 65536 for the collector's metrics does not exist" in refusal(capsys, "up", "--port", "65535")


def test_an_address_that_is_not_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLWATCH_HOST", "203.0.113.7")
    assert "cannot listen on 203.0.113.7:8402 for the API" in refusal(capsys, "up")


def test_a_home_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOLLWATCH_HOME", str(tmp_path / "file" / "home"))
    first = free_ports(6)
    said = refusal(capsys, "up", "--port", str(first), "--sandbox-port", str(first + 2))
    assert "(Not a directory): TOLLWATCH_HOME names another folder" in said


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["no-such-command"],
        ["up", "--port", "0"],
        ["up", "--port", "http"],
        ["keys", "create", "k", "--project", "p"],
        ["keys", "create", "k", "--project", "p", "--scopes", ","],
        ["db", "role", "reader"],
    ],
)
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: tollwatch" in capsys.readouterr().err


def test_settings_lists_every_setting_even_in_a_broken_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLWATCH_PROT", "8402")
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [variable for variable, _, _ in describe()]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("tollwatch 0.")


def test_db_url_prints_the_url_in_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", "postgresql://me@db/tollwatch")
    assert main(["db", "url"]) == 0
    assert capsys.readouterr().out == "postgresql://me@db/tollwatch\n"


def test_migrate_brings_an_empty_database_to_head(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", empty_database_url)
    for _ in range(2):
        assert main(["migrate"]) == 0
        assert capsys.readouterr().out == "the schema and its policies are up to date\n"


def test_a_readers_url_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def create_reader(_settings: Settings, project: str, _deadlines: object) -> str:
        return f"postgresql://reader_{project}"

    stub(monkeypatch, "store.roles", create_reader=create_reader)
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", "postgresql://me@db/tollwatch")
    assert main(["db", "role", "reader", "--project", "p"]) == 0
    assert capsys.readouterr().out == "postgresql://reader_p\n"


@pytest.mark.parametrize(("command", "module"), [("api", "api.server"), ("collector", "collector.daemon")])
def test_daemons_run_on_the_database_in_use(command: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    async def run(settings: Settings, _deadlines: object) -> None:
        seen.append(settings)

    stub(monkeypatch, module, run=run)
    monkeypatch.setattr(commands, "configure", lambda _settings: None)
    monkeypatch.setattr("store.embedded.running_url", lambda home: f"postgresql://embedded/{home}")
    assert main([command]) == 0
    assert seen == [Settings(database_url="postgresql://embedded/.tollwatch")]


def test_an_error_of_ours_is_one_line_whatever_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def create_reader(*_: object) -> str:
        raise InvalidValue("two\nlines, password=hidden")

    stub(monkeypatch, "store.roles", create_reader=create_reader)
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", "postgresql://me@db/tollwatch")
    assert refusal(capsys, "db", "role", "reader", "--project", "p") == "tollwatch: two lines, password=***\n"


def test_ctrl_c_is_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "version", interrupted)
    assert main(["version"]) == 130
    assert capsys.readouterr().err == ""


def test_an_unexpected_error_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(commands, "version", broken)
    assert main(["version"]) == 1
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_the_package_runs_as_a_module() -> None:
    assert (ROOT / "cli" / "__main__.py").read_text().endswith("sys.exit(main())\n")


def test_the_sandbox_alone_gets_its_own_arguments(tmp_path: Path) -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "cli", "sandbox", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--story" in helped.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "cli", "sandbox", "--story", "nope"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, "none of healthy, poor" in refused.stderr) == (2, True)
