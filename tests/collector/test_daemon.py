from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from collector.daemon import collecting, run
from store.deadlines import Deadlines
from store.errors import DatabaseUnavailable, HorizonError, SettingsError, StartRefused
from store.settings import Settings
from tests.collector.chain import ROOT, USDC
from tests.collector.node import Node, Reply
from tests.collector.seeds import eventually
from tests.ports import free_ports

STEP = timedelta(milliseconds=200)


def collector_settings(settings, url, **changes):
    return replace(settings, rpc_urls=(url,), sample_interval=STEP, collector_port=0, **changes)


@asynccontextmanager
async def metrics_of(port):
    """A function that gives {(name, label values…): value} of the running collector."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

        async def read():
            text = (await client.get("/metrics")).text
            return {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }

        yield read


async def until(read, check, seconds=20):
    deadline = time.monotonic() + seconds
    while not check(found := await read()):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
    return found


async def test_the_whole_collector(settings, deadlines, world, chain):
    wallet = await world.wallet(chain.scout.pubkey())
    async with (
        collecting(collector_settings(settings, chain.url), deadlines) as port,
        metrics_of(port) as read,
    ):
        jobs = ("partitions", "rollups", "totals", "retention", "balances")
        found = await until(
            read, lambda now: all(now["tollwatch_job_runs_total", *sorted((job, "ok"))] for job in jobs)
        )
        assert all(found["tollwatch_job_last_success_timestamp_seconds", job] > 0 for job in jobs)
        await until(read, lambda now: now["tollwatch_job_runs_total", "balances", "ok"] >= 2)
        assert (await read())["tollwatch_sample_lag_seconds",] < 30
    samples = await world.samples()
    assert len(samples) >= 6
    assert {row.amount for (held, symbol, _), row in samples.items() if (held, symbol) == (wallet, "USDC")} == {
        chain.tokens(chain.scout.pubkey(), USDC)
    }
    assert all(ts.microsecond % 200_000 == 0 for *_, ts in samples)


async def test_a_node_that_fails_does_not_end_the_collector(settings, deadlines, world, chain):
    await world.wallet(chain.scout.pubkey())
    quick = replace(deadlines, rpc=0.3)
    async with (
        Node(lambda _: Reply(b"", 500)) as node,
        collecting(collector_settings(settings, node.url("/?api-key=hidden")), quick) as port,
        metrics_of(port) as read,
    ):
        found = await until(read, lambda now: now["tollwatch_job_runs_total", "balances", "failed"] >= 2)
        assert not any("hidden" in part for key in found for part in key)
    assert await world.samples() == {}


def allow(server, url, *, connections):
    """Open or shut a database for everyone, as a restart does, and end the sessions on it."""
    name = urlsplit(url).path[1:]
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        allowed = sql.SQL("true" if connections else "false")
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), allowed))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


async def test_it_goes_on_when_the_database_is_back(plain_server, plain_database, deadlines, chain, caplog):
    caplog.set_level(logging.INFO)
    settings = collector_settings(Settings(database_url=plain_database), chain.url)
    ok, failed = (("tollwatch_job_runs_total", "balances", outcome) for outcome in ("ok", "failed"))
    async with collecting(settings, deadlines) as port, metrics_of(port) as read:
        await until(read, lambda now: now[ok])
        allow(plain_server, plain_database, connections=False)
        before = (await until(read, lambda now: now[failed] >= 4))[ok]
        allow(plain_server, plain_database, connections=True)
        await until(read, lambda now: now[ok] >= before + 2)
    told = [
        record.message
        for record in caplog.records
        if record.message in ("job_failed", "job_recovered") and record.tollwatch_fields["job"] == "balances"
    ]
    # Sessions that ended and a server that refuses new ones may be two states.
    assert told in (["job_failed", "job_recovered"], ["job_failed", "job_failed", "job_recovered"])


@pytest.mark.parametrize(
    ("changes", "error", "names"),
    [
        ({"rpc_urls": ()}, SettingsError, "TOLLWATCH_RPC_URLS"),
        ({"database_url": None}, SettingsError, "TOLLWATCH_DATABASE_URL"),
        ({"database_url": "postgresql://nobody@127.0.0.1:9/none"}, DatabaseUnavailable, "does not answer"),
        ({"late_window": timedelta(days=400)}, HorizonError, "late_window|LATE_WINDOW"),
        ({"collector_host": "256.0.0.1"}, StartRefused, "TOLLWATCH_COLLECTOR_HOST"),
        ({"sample_interval": timedelta(0)}, SettingsError, "balances"),
    ],
)
async def test_what_it_refuses_to_begin_with(plain_database, deadlines, changes, error, names):
    settings = replace(collector_settings(Settings(database_url=plain_database), "http://127.0.0.1:9"), **changes)
    with pytest.raises(error, match=names):
        async with collecting(settings, deadlines):
            pass


@pytest.fixture
def plain_database(plain_server):
    name = plain_server.clone()
    yield plain_server.url(name)
    plain_server.drop(name)


PROGRAM = """
import asyncio, os
from dataclasses import replace
from collector.daemon import run
from store.deadlines import Deadlines
from store.settings import Settings
asyncio.run(run(Settings.from_env(os.environ), replace(Deadlines(), shutdown=5)))
"""


@pytest.fixture
def program(plain_database, chain):
    """The daemon as a process; (process, port of /metrics)."""
    port = free_ports()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOLLWATCH_")}
    environ |= {
        "TOLLWATCH_DATABASE_URL": plain_database,
        "TOLLWATCH_RPC_URLS": f"{chain.url}/?api-key=hidden",
        "TOLLWATCH_COLLECTOR_PORT": str(port),
        "TOLLWATCH_SAMPLE_INTERVAL": "200ms",
        "TOLLWATCH_LOG_LEVEL": "debug",
    }
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as process:
        yield process, port
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(program, number):
    process, port = program
    async with metrics_of(port) as read:

        async def patient():
            assert process.poll() is None, process.stderr.read()
            try:
                return await read()
            except httpx.TransportError:
                return {}

        await until(patient, lambda now: now.get(("tollwatch_job_runs_total", "balances", "ok")), 40)
    process.send_signal(number)
    text = (await asyncio.to_thread(process.communicate, timeout=20))[1]
    assert process.returncode == 0, text
    lines = text.splitlines()
    for name in ("collector_started", "collector_stopping", "collector_stopped"):
        assert sum(f" {name}" in line for line in lines) == 1, text
    # The tests' server does without fsync, and is told off for it.
    text = "\n".join(line for line in lines if " database_unfit " not in line)
    assert not any(word in text for word in ("hidden", "Traceback", "WARNING", "ERROR", "never")), text
    with pytest.raises(httpx.ConnectError):
        async with metrics_of(port) as read:
            await read()


async def test_a_signal_while_it_starts_is_not_lost(plain_database, chain, root_logging):
    settings = collector_settings(Settings(database_url=plain_database, log_level="error"), chain.url)
    running = asyncio.create_task(run(settings, Deadlines()))
    await eventually(lambda: signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None))
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(20):
        await running
