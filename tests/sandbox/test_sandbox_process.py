"""`python -m sandbox` as its parent sees it."""

import asyncio
import contextlib
import signal
import socket
import sys

import pytest
from sandbox_tools import WAIT_S

from sandbox.__main__ import read_arguments
from sandbox.http_client import http_client
from sandbox.profiles import PROFILES
from sandbox.world import Options
from tests.ports import free_ports

PIPE = asyncio.subprocess.PIPE


@contextlib.asynccontextmanager
async def started(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", *map(str, arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready_line(process):
    line = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
    assert line, (await process.stderr.read()).decode()
    return line.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_it_says_when_it_is_ready_and_stops_on_a_signal(number):
    port = free_ports(4)
    async with started("--port", port, "--tollwatch-url", "", "--slot-ms", 20, "--seed", 2) as process:
        line = await ready_line(process)
        chain, facilitator, market, knowledge = (f"http://127.0.0.1:{port + step}" for step in range(4))
        assert line == (
            f"sandbox ready: chain {chain} facilitator {facilitator} market {market} knowledge {knowledge}\n"
        )
        async with http_client(WAIT_S) as http:
            books = (await http.get(f"{chain}/books")).json()
            assert [agent["name"] for agent in books["agents"]] == [profile.name for profile in PROFILES]
            assert (await http.get(f"{market}/v1/price/SOL")).status_code == 402
            assert (await http.get(f"{knowledge}/v1/answer/x402")).status_code == 402
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert (process.returncode, out, err) == (0, b"", b"")


async def test_it_ends_with_its_standard_input_when_asked_to():
    async with started("--port", free_ports(4), "--tollwatch-url", "", "--pace", 0, "--exit-with-stdin") as process:
        await ready_line(process)
        process.stdin.close()
        _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert (process.returncode, err) == (0, b"")


async def test_it_outlives_its_standard_input_otherwise():
    port = free_ports(4)
    async with started("--port", port, "--tollwatch-url", "", "--pace", 0) as process:
        await ready_line(process)
        process.stdin.close()
        async with http_client(WAIT_S) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/health")).text == "ok"
        assert process.returncode is None


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
async def test_a_port_in_use_is_one_clear_line(offset):
    port = free_ports(4)
    with socket.create_server(("127.0.0.1", port + offset)):
        async with started("--port", port) as process:
            out, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 1
    assert out == b""
    lines = err.decode().splitlines()
    assert len(lines) == 1
    assert str(port + offset) in lines[0]
    assert "--port" in lines[0]


async def test_an_unusable_host_is_one_clear_line():
    async with started("--host", "host.invalid", "--port", free_ports(4)) as process:
        _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 1
    assert len(err.decode().splitlines()) == 1


def test_the_defaults_are_the_documented_ones(monkeypatch):
    monkeypatch.setenv("SANDBOX_PORT", "1")  # the environment is nobody's business here
    arguments = vars(read_arguments([]))
    assert arguments.pop("exit_with_stdin") is False
    assert Options(**arguments) == Options()
    assert (Options().port, Options().slot_ms, Options().pace, Options().seed) == (8899, 400, 1.0, 1)
    assert (Options().speed, Options().cycles, Options().purchases) == (1.0, 0, 0)


@pytest.mark.parametrize(
    ("argv", "stories"),
    [
        ([], ("healthy", "poor", "flaky", "cheated", "liar")),
        (["--purchases", "12"], ("healthy",)),
        (["--purchases", "12", "--story", "poor,healthy"], ("poor", "healthy")),
        (["--story", "liar"], ("liar",)),
    ],
)
def test_which_stories_are_told(argv, stories):
    arguments = vars(read_arguments(argv))
    del arguments["exit_with_stdin"]
    assert Options(**arguments).stories == stories


@pytest.mark.parametrize(
    "argv",
    [
        ["--port", "0"],
        ["--port", "65533"],
        ["--port", "x"],
        ["--pace", "-1"],
        ["--pace", "nan"],
        ["--slot-ms", "0"],
        ["--speed", "0"],
        ["--speed", "nan"],
        ["--story", "rich"],
        ["--story", ""],
        ["--cycles", "-1"],
        ["--purchases", "-1"],
        ["--confirmed-lag", "40"],
        ["--finalized-lag", "-1"],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as refused:
        read_arguments(argv)
    assert refused.value.code == 2
    assert argv[0] in capsys.readouterr().err
