"""What each command does. A command takes the parsed arguments and the environment, and returns the exit code.

What a command alone needs is imported inside it: FastAPI, Alembic and psycopg would make every other command slow.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from store.deadlines import Deadlines
from store.errors import SettingsError
from store.logs import configure
from store.settings import Settings, describe

Command = Callable[[argparse.Namespace, Mapping[str, str]], int]
Daemon = Callable[[Settings, Deadlines], Awaitable[None]]
_T = TypeVar("_T")

NO_DATABASE = "no database: set TOLLWATCH_DATABASE_URL, or run `tollwatch up` for the embedded one"


def up(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch up`."""
    from cli import up as whole  # noqa: PLC0415
    from cli.plan import make_plan  # noqa: PLC0415

    plan = make_plan(
        Settings.from_env(environ),
        environ,
        port=arguments.port,
        sandbox_port=None if arguments.no_sandbox else arguments.sandbox_port,
    )
    return asyncio.run(whole.run(plan, Deadlines()))


def api(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch api`."""
    settings = with_database(Settings.from_env(environ))
    _prepare(settings, arguments)
    from api.server import run  # noqa: PLC0415

    return _serve(run, settings)


def collector(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch collector`."""
    settings = with_database(Settings.from_env(environ))
    _prepare(settings, arguments)
    from collector.daemon import run  # noqa: PLC0415

    return _serve(run, settings)


def sandbox(arguments: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    """`tollwatch sandbox`: in a process of its own, because nothing of ours may import it."""
    if importlib.util.find_spec("x402") is None:
        raise SettingsError(
            "the sandbox is not installed here: it comes with requirements/dev.txt, and stays out of production"
        )
    asked = ["--help"] if arguments.help_sandbox else arguments.rest
    return os.execv(sys.executable, [sys.executable, "-m", "sandbox", *asked])  # noqa: S606 (no shell is meant)


def migrate(_arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch migrate`."""
    settings = with_database(Settings.from_env(environ))
    from store.migrate import upgrade  # noqa: PLC0415

    asyncio.run(_of(upgrade(settings, Deadlines())))
    print("the schema and its policies are up to date")
    return 0


def database_url(_arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch db url`."""
    print(with_database(Settings.from_env(environ)).database_url)
    return 0


def reader_role(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch db role reader`."""
    settings = with_database(Settings.from_env(environ))
    from store.roles import create_reader  # noqa: PLC0415

    print(asyncio.run(_of(create_reader(settings, arguments.project, Deadlines()))))
    return 0


def settings(_arguments: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    """`tollwatch settings`: also when the environment does not make sense."""
    rows = [("variable", "default", "what it is for"), *describe()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for variable, default, doc in rows:
        print(f"{variable:<{widths[0]}}  {default:<{widths[1]}}  {doc}".rstrip())
    return 0


def version(_arguments: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    """`tollwatch version`."""
    print("tollwatch", importlib.metadata.version("tollwatch-server"))
    return 0


def with_database(settings: Settings) -> Settings:
    """Settings whose database_url is set: by the operator, or to the server that `up` runs. Raises SettingsError."""
    if settings.database_url is not None:
        return settings
    from store.embedded import running_url  # noqa: PLC0415

    url = running_url(settings.home)
    if url is None:
        raise SettingsError(NO_DATABASE)
    return replace(settings, database_url=url)


def _prepare(settings: Settings, arguments: argparse.Namespace) -> None:
    """What a daemon needs before it imports its world: logging, and the watch on its supervisor."""
    configure(settings)
    if arguments.exit_with_stdin:
        from cli.lifeline import exit_with_stdin  # noqa: PLC0415

        exit_with_stdin(grace=Deadlines().shutdown)


def _serve(run: Daemon, settings: Settings) -> int:
    import uvloop  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_of(run(settings, Deadlines())))
    return 0


def _of(work: Awaitable[_T]) -> Coroutine[Any, Any, _T]:
    """Any awaitable as a coroutine, which is what an event loop runs."""

    async def wait() -> _T:
        return await work

    return wait()
