"""`tollwatch db status`, `slow`, `explain`: what an operator asks. Tables for people, JSON for programs."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cli.commands import with_database
from store.deadlines import Deadlines
from store.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from store.slow import SlowStatement
    from store.status import Job, Relation, Status

T = TypeVar("T")
Row = Sequence[str]
_UNITS = ("B", "kB", "MB", "GB", "TB")


def add_commands(database: Any) -> None:
    """Add the three to the parser of `tollwatch db`."""
    _add(database, "status", status, "every relation and rollup, its rows, size, age and jobs")
    slow_parser = _add(database, "slow", slow, "statements that take the most time (needs pg_stat_statements)")
    slow_parser.add_argument("--limit", type=_count, default=20, metavar="N", help="how many (20)")
    plan = database.add_parser("explain", help="the plan of a named statement or view", description=explain.__doc__)
    plan.set_defaults(run=explain)
    plan.add_argument("name", metavar="NAME", help="a name of sql/queries, or schema.view")
    plan.add_argument("--analyze", action="store_true", help="run it too; reads only")


def _add(database: Any, name: str, run: Callable[..., int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = database.add_parser(name, help=about, description=about)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="JSON for programs; times are UTC, sizes bytes")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def status(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch db status`."""
    from store.status import read  # noqa: PLC0415

    found = _ask(environ, read)
    if arguments.json:
        _print_json(asdict(found))
    else:
        _print_status(found)
    return 0


def slow(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`tollwatch db slow`."""
    from store.slow import read  # noqa: PLC0415

    found = _ask(environ, lambda engine: read(engine, limit=arguments.limit))
    if arguments.json:
        _print_json([asdict(statement) for statement in found])
    else:
        _print_table(("statement", "calls", "total", "mean", "max", "rows", "share"), map(_slow_row, found), left=1)
    return 0


def explain(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """The plan of a named statement or view, with values that a caller could have sent."""
    from store.explain import explain as ask  # noqa: PLC0415

    for line in _ask(environ, lambda engine: ask(engine, arguments.name, analyze=arguments.analyze)):
        print(line)
    return 0


def _ask(environ: Mapping[str, str], question: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Ask the database in use, in a pool of one; an operator waits as long as a job may."""
    from store.engine import create_engine  # noqa: PLC0415

    settings, deadlines = with_database(Settings.from_env(environ)), Deadlines()

    async def ask() -> T:
        url = settings.required_database_url
        engine = create_engine(url, deadlines, pool_size=1, statement=deadlines.job_statement)
        try:
            return await question(engine)
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=lambda moment: moment.isoformat()))


def _print_status(found: Status) -> None:
    timescale = f", TimescaleDB {found.timescaledb}" if found.timescaledb else ""
    print(
        f"{found.database}: {found.edition} edition, PostgreSQL {found.postgres}{timescale}, {_size(found.bytes)},"
        f" at {_time(found.at)} UTC\n"
    )
    head = (
        "relation",
        "rows",
        "heap",
        "index",
        "columnstore",
        "partitions",
        "oldest",
        "newest",
        "next job",
        "last failure",
    )
    _print_table(head, [_relation_row(relation, found.at) for relation in found.relations], left=1)
    print("\n~ estimated. Of a rollup: its materialised rows.\n")
    rollups = [relation for relation in found.relations if relation.watermark or relation.exact_until]
    _print_table(("rollup", "watermark", "dirty buckets", "exact until"), map(_rollup_row, rollups), left=1)
    print()
    if found.jobs:
        columns = ("job", "runs in", "of", "outcome", "ran", "succeeded", "next run", "last failure")
        _print_table(columns, [_job_row(job, found.at) for job in found.jobs], left=4)
    else:
        print("No job has run: the collector has never been here.")


def _relation_row(relation: Relation, now: datetime) -> Row:
    due, failure = relation.next_job, relation.last_failure
    columns = f"{relation.columnstore_partitions} of " if relation.columnstore_partitions else ""
    return (
        relation.name,
        ("" if relation.rows_are == "exact" else "~") + f"{relation.rows:,}",
        _size(relation.heap_bytes),
        _size(relation.index_bytes),
        _size(relation.columnstore_bytes) if relation.columnstore_bytes else "-",
        f"{columns}{relation.partitions}" if relation.partitions else "-",
        _time(relation.oldest),
        _time(relation.newest),
        "-" if due is None else f"{due.job} {_until(due.at, now)}",
        "-" if failure is None else f"{failure.job} {_until(failure.at, now)}",
    )


def _rollup_row(relation: Relation) -> Row:
    return (relation.name, _time(relation.watermark), str(relation.dirty_buckets), _time(relation.exact_until))


def _job_row(job: Job, now: datetime) -> Row:
    failure = job.last_failure
    return (
        job.name,
        job.runs_in,
        job.relation or "all",
        (job.outcome or "never ran") + ("" if job.is_scheduled else ", paused"),
        _until(job.ran_at, now),
        _until(job.succeeded_at, now),
        _until(job.next_at, now),
        "-" if failure is None else f"{_until(failure.at, now)}: {' '.join(failure.message.split())[:80]}",
    )


def _slow_row(statement: SlowStatement) -> Row:
    return (
        statement.name or statement.text[:60],
        f"{statement.calls:,}",
        f"{statement.total_ms / 1000:,.2f} s",
        f"{statement.mean_ms:,.2f} ms",
        f"{statement.max_ms:,.1f} ms",
        f"{statement.rows:,}",
        f"{statement.share:.1%}",
    )


def _print_table(head: Row, rows: Iterable[Row], *, left: int) -> None:
    """Columns from `left` on are flushed right, but the last one."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left or column == len(head) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 100 else f"{size:.1f} {_UNITS[unit]}"


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def _until(moment: datetime | None, now: datetime) -> str:
    """How far a moment is from now: `in 5 min`, `3 h ago`."""
    if moment is None:
        return "-"
    distance = abs(moment - now)
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if distance >= 2 * unit:
            shown = f"{distance // unit} {name}"
            break
    else:
        shown = f"{distance // timedelta(seconds=1)} s"
    return f"in {shown}" if moment > now else f"{shown} ago"
