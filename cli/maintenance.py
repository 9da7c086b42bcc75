"""`tollwatch backfill` and `tollwatch db rebuild`: an operator's work on what is stored, beside live writers."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from cli.commands import with_database
from store.deadlines import Deadlines
from store.errors import NotFound
from store.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from store.edition import Edition

PARTS = ("rollups", "totals", "heads")
"""What can be made again, in the order that serves best: totals add up rollups."""
MAX_LINE = 1024**2
"""Bytes of one event; a longer line is rejected, and never held as a whole."""


@dataclass(kw_only=True)
class Account:
    """What became of every line of a backfill: accepted + duplicates + rejected is their number."""

    accepted: int = 0
    duplicates: int = 0
    hours: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def reject(self, line: int, code: str, message: str) -> None:
        """Count and print one; the others of its batch are not affected."""
        self.rejected[code] += 1
        print(f"line {line}: {code}: {message}", file=sys.stderr)

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {number}" for code, number in sorted(self.rejected.items()))
        return (
            f"accepted {self.accepted}, duplicates {self.duplicates}, rejected {self.rejected.total()}"
            f"{f' ({codes})' if codes else ''}; {self.hours} hours made again"
        )


def backfill(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch backfill`: 0 if nothing was rejected."""
    settings = with_database(Settings.from_env(environ))
    account = Account()
    try:
        if arguments.file == "-":
            asyncio.run(_backfill(settings, arguments.project, sys.stdin.buffer, account))
        else:
            with open(arguments.file, "rb") as source:  # noqa: PTH123 (as it was typed)
                asyncio.run(_backfill(settings, arguments.project, source, account))
    except OSError as exc:
        raise NotFound(f"{arguments.file} cannot be read ({exc.strerror}); name a file of one event per line") from exc
    print(account)
    return 1 if account.rejected else 0


def rebuild(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch db rebuild`."""
    settings = with_database(Settings.from_env(environ))
    asyncio.run(_rebuild(settings, [part for part in PARTS if part in (arguments.parts or PARTS)]))
    return 0


async def _rebuild(settings: Settings, parts: list[str]) -> None:
    from store import heads, rollups, totals  # noqa: PLC0415

    async with _opened(settings) as (engine, edition):
        for part in parts:
            if part == "rollups":
                hours = await rollups.rebuild(engine, edition, settings)
                print(f"rollups: {hours} hours made again, and their days")
            elif part == "totals":
                wrong = await totals.rebuild(engine, edition, settings)
                print(f"totals: {wrong} rows were not what the rollups add up to, and are now")
            else:
                for done in await heads.rebuild(engine, settings):
                    print(f"{done.head}: {done.heads} heads, {done.mended} were not what their facts say, and are now")


async def _backfill(settings: Settings, project: str, source: BinaryIO, account: Account) -> None:
    from cli.imports import Importer  # noqa: PLC0415

    async with _opened(settings) as (engine, edition):
        importer = await Importer.open(engine, edition, settings, Deadlines(), project)
        for batch in _batches(source, settings.max_batch, account):
            await importer.take(batch, account)
        account.hours += await importer.refresh()


def _batches(source: BinaryIO, most: int, account: Account) -> Iterator[list[tuple[int, bytes]]]:
    """(line number, event), by the batch; empty lines are no events."""
    batch: list[tuple[int, bytes]] = []
    for number, line in _lines(source):
        if line is None:
            account.reject(number, "malformed", f"the line is longer than {MAX_LINE} bytes")
        elif event := line.strip(b" \t\r\n"):
            batch.append((number, event))
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line); None for one that is too long, of which nothing is kept."""
    number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = source.readline(MAX_LINE)
        yield number, None


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[AsyncEngine, Edition]]:
    """A pool for slow statements, on a database that this code was made for; a sandbox's too."""
    from store import startup  # noqa: PLC0415
    from store.engine import create_engine  # noqa: PLC0415

    deadlines = Deadlines()
    engine = create_engine(settings.required_database_url, deadlines, pool_size=2, statement=deadlines.job_run)
    try:
        yield engine, await startup.check(engine, replace(settings, sandbox=True))
    finally:
        await engine.dispose()
