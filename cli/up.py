"""`tollwatch up`: database, migrations, children, until a signal. Everything it starts, it stops.

plan ──► ports ──► embedded server ──► migrate ──► sandbox, collector, API ──► /readyz ──► what runs, printed
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from cli.home import claimed, end_orphans, orphans, record_children
from cli.plan import Plan, children_of, describe_plan, ports_of
from cli.ports import refusal, refuse_overlap, taken
from cli.supervisor import ChildSpec, Supervisor
from store.deadlines import Deadlines
from store.errors import TollwatchError

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


Children = Callable[[Plan, str], list[ChildSpec]]
"""Plan and database URL → the children."""


async def run(plan: Plan, deadlines: Deadlines, *, children: Children = children_of) -> int:
    """Do all that `plan` says until SIGINT, SIGTERM or SIGHUP, then stop it again; 0.

    Raises TollwatchError when something is refused or keeps failing.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(_work(plan, deadlines, children))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        print("stopping …", file=sys.stderr, flush=True)
    for task in (work, stopped):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return 0


async def _work(plan: Plan, deadlines: Deadlines, children: Children) -> None:
    home = plan.settings.home
    refuse_overlap(ports_of(plan))
    if not plan.embedded:
        await _check_reachable(plan, deadlines)
    if not home.exists():
        # A first start on a taken port leaves nothing behind, not even the home.
        await _claim_ports(plan, deadlines)
    with claimed(home):
        await _claim_ports(plan, deadlines)
        async with _database(plan, deadlines) as url:
            await _prepare_database(plan, url, deadlines)
            await _supervise(plan, children(plan, url), describe_plan(plan, _shown_database(plan, url)), deadlines)


async def _check_reachable(plan: Plan, deadlines: Deadlines) -> None:
    """Raises DatabaseError before anything was touched when the operator's database does not answer."""
    from store.engine import create_engine, reading  # noqa: PLC0415 (SQLAlchemy)

    engine = create_engine(plan.settings.database_url or "", deadlines, pool_size=1)
    try:
        async with reading(engine):
            pass
    finally:
        await engine.dispose()


async def _claim_ports(plan: Plan, deadlines: Deadlines) -> None:
    """Raises StartRefused for a port that is taken, unless by an orphan of ours, which is ended."""
    if orphans(plan.settings.home):
        await end_orphans(plan.settings.home, grace=deadlines.shutdown)
    for port in taken(ports_of(plan)):
        raise refusal(port)


@asynccontextmanager
async def _database(plan: Plan, deadlines: Deadlines) -> AsyncIterator[str]:
    """The URL to use; the embedded server runs inside the block."""
    if plan.settings.database_url is not None:
        yield plan.settings.database_url
        return
    from store.embedded import PostgresServer, bundled_bin_dir  # noqa: PLC0415 (an outside database needs no wheel)

    server = PostgresServer(plan.settings.home, bin_dir=bundled_bin_dir(), deadlines=deadlines)
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    try:
        await asyncio.shield(starting)
        yield server.url()
    finally:
        # A start that is under way in its thread cannot be cancelled, and must not outlive us.
        await asyncio.wait({starting})
        server.stop()


async def _prepare_database(plan: Plan, url: str, deadlines: Deadlines) -> None:
    from store.migrate import upgrade  # noqa: PLC0415 (Alembic)
    from store.startup import prepare_sandbox, refuse_sandbox  # noqa: PLC0415

    settings = replace(plan.settings, database_url=url)
    if plan.sandbox_port is None:
        await refuse_sandbox(settings, deadlines)
    await upgrade(settings, deadlines)
    if plan.sandbox_port is not None:
        await prepare_sandbox(settings, deadlines)


async def _supervise(plan: Plan, specs: list[ChildSpec], news: str, deadlines: Deadlines) -> None:
    home = plan.settings.home
    supervisor = Supervisor(specs, deadlines=deadlines, on_start=lambda pids: record_children(home, pids))
    running = asyncio.create_task(supervisor.run())
    try:
        await _first(running, wait_ready(plan, deadlines.child_ready))
        print(news, flush=True)
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _first(running: asyncio.Task[None], ready: Awaitable[None]) -> None:
    """Wait until ready, or until the children have failed for good."""
    waiting = asyncio.ensure_future(ready)
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        await waiting
    finally:
        waiting.cancel()


async def wait_ready(plan: Plan, patience: float) -> None:
    """Poll until /readyz says 200 and all others listen. Raises TollwatchError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (missing := await asyncio.to_thread(_missing, plan)) is not None:
        if time.monotonic() > deadline:
            raise TollwatchError(f"not ready within {patience:.0f} s: {missing}; output is in {plan.logs}")
        await asyncio.sleep(0.05)


def _missing(plan: Plan) -> str | None:
    """What is not ready yet; None when all is."""
    answer = _ask(plan.url)
    if answer != "200":
        return f"the API ({answer})"
    for port in ports_of(plan)[1:]:
        # By connecting: a trial bind could take the port from under the child.
        try:
            socket.create_connection((port.host, port.number), timeout=2).close()
        except OSError as exc:
            return f"{port.what} ({exc})"
    return None


def _ask(url: str) -> str:
    """The status of /readyz, with its body unless it is 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace").strip()
        return "200" if answer.status == 200 else f"{answer.status} {body}"
    except (OSError, http.client.HTTPException) as exc:
        return f"no answer: {exc}"
    finally:
        connection.close()


def _shown_database(plan: Plan, url: str) -> str:
    if plan.embedded:
        from store.embedded_place import recorded_base  # noqa: PLC0415

        return f"embedded PostgreSQL in {recorded_base(plan.settings.home)}  (its URL: tollwatch db url)"
    parts = urlsplit(url)
    return f"{parts.hostname or 'local socket'}:{parts.port or 5432}{parts.path}"
