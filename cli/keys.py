"""`tollwatch keys …`: the operator's hand on API keys. The audit log names the account of the system that ran it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from cli.commands import with_database
from store.deadlines import Deadlines
from store.settings import Settings

if TYPE_CHECKING:
    from store.keys import KeyChanges, KeyInfo

_COLUMNS = (
    "prefix",
    "project",
    "name",
    "scopes",
    "state",
    "created",
    "by",
    "last used",
    "expires",
    "events/s",
    "bytes/s",
)
_T = TypeVar("_T")


def create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch keys create`."""
    from store import keys  # noqa: PLC0415

    async def make() -> str:
        return await keys.create_key(
            with_database(Settings.from_env(environ)),
            project=arguments.project,
            name=arguments.name,
            scopes=arguments.scopes,
            deadlines=Deadlines(),
            actor=actor(),
            expires_at=None if arguments.expires is None else datetime.now(UTC) + arguments.expires,
            events_per_s=arguments.events_per_s,
            bytes_per_s=arguments.bytes_per_s,
        )

    print(asyncio.run(make()))
    return 0


def show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch keys list`."""

    async def read(changes: KeyChanges) -> list[KeyInfo]:
        project = None if arguments.project is None else await changes.known_project(arguments.project)
        return await changes.listed(project)

    found = _with_changes(environ, read)
    if arguments.json:
        for info in found:
            print(json.dumps(_members(info)))
        return 0
    rows = [_COLUMNS, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def revoke(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch keys revoke`."""
    info = _with_changes(environ, lambda changes: changes.revoke(None, arguments.prefix))
    print(f"{info.prefix} ({info.name}, project {info.project}) is revoked")
    return 0


def rotate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch keys rotate`: the new key alone on stdout."""
    from store.keys import GRACE  # noqa: PLC0415

    grace = GRACE if arguments.grace is None else arguments.grace
    old, _, key_text = _with_changes(environ, lambda changes: changes.rotate(None, arguments.prefix, grace))
    print(f"{old.prefix} ({old.name}, project {old.project}) works until {_minute(old.expires_at)}", file=sys.stderr)
    print(key_text)
    return 0


def actor() -> str:
    """Who runs this, as the system knows it."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name, as in containers
        return "cli"


def _with_changes(environ: Mapping[str, str], ask: Callable[[KeyChanges], Awaitable[_T]]) -> _T:
    from store.keys import changes_of  # noqa: PLC0415

    async def run() -> _T:
        async with changes_of(with_database(Settings.from_env(environ)), Deadlines(), actor()) as changes:
            return await ask(changes)

    return asyncio.run(run())


def _members(info: KeyInfo) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(info).items()}


def _row(info: KeyInfo) -> tuple[str, ...]:
    return (
        info.prefix,
        info.project,
        info.name,
        ",".join(info.scopes),
        _state(info),
        _minute(info.created_at),
        info.created_by,
        _minute(info.last_used_at),
        _minute(info.expires_at),
        str(info.events_per_s or "default"),
        str(info.bytes_per_s or "default"),
    )


def _state(info: KeyInfo) -> str:
    if info.revoked_at is not None:
        return f"revoked {_minute(info.revoked_at)}"
    if not info.works(datetime.now(UTC)):
        return "expired"
    return "works" if info.replaced_by is None else f"replaced by {info.replaced_by}"


def _minute(moment: datetime | None) -> str:
    return "never" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
