"""The command line `tollwatch`: arguments in, one line on stderr and an exit code out.

0 done, 1 refused or failed (`tollwatch: <why>`), 2 wrong usage, 130 interrupted. The environment is read here and
nowhere else. Commands import what they need when they run, so that `tollwatch version` waits for no database driver.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cli import commands, keys, maintenance
from cli import database as database_commands
from store.errors import TollwatchError
from store.logs import redact
from store.settings import parse_duration, parse_size


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.run is not commands.sandbox:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        code: int = arguments.run(arguments, os.environ)
        sys.stdout.flush()
    except TollwatchError as exc:
        print(f"tollwatch: {redact(' '.join(str(exc).split()))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception:
        logging.getLogger("tollwatch").exception("unexpected error; please report it")
        return 1
    return code


def build_parser() -> argparse.ArgumentParser:
    """Every command, its arguments and, as `run`, the function that does it."""
    parser = argparse.ArgumentParser(
        prog="tollwatch",
        description="Flight recorder for agents that pay. Settings are TOLLWATCH_… variables: `tollwatch settings`.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_up(subparsers)
    for name, run, about in (
        ("api", commands.api, "the HTTP API, the exporter and the page"),
        ("collector", commands.collector, "the daemon that samples the chain"),
    ):
        daemon = _add(subparsers, name, run, about)
        # For `up`: a supervisor that is killed takes its children along.
        daemon.add_argument("--exit-with-stdin", action="store_true", help=argparse.SUPPRESS)
    sandbox = _add(subparsers, "sandbox", commands.sandbox, "the sandbox alone: --story, --speed, --cycles, --help, …")
    sandbox.add_argument("-h", "--help", dest="help_sandbox", action="store_true", help=argparse.SUPPRESS)
    _add(subparsers, "migrate", commands.migrate, "bring the database to this version's schema and policies")
    backfill = _add(subparsers, "backfill", maintenance.backfill, "store events that are older than ingest accepts")
    backfill.add_argument("file", metavar="FILE", help="one event per line, as POST /v1/events takes it; -: stdin")
    backfill.add_argument("--project", required=True, metavar="P")
    _add_database(subparsers)
    _add_keys(subparsers)
    _add(subparsers, "settings", commands.settings, "list every setting, its default and what it is for")
    _add(subparsers, "version", commands.version, "print the version")
    return parser


def _add(subparsers: Any, name: str, run: commands.Command, about: str) -> argparse.ArgumentParser:
    own_help = name != "sandbox"  # the sandbox describes its own arguments
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=about, description=about, add_help=own_help)
    parser.set_defaults(run=run)
    return parser


def _add_up(subparsers: Any) -> None:
    up = _add(subparsers, "up", commands.up, "database, sandbox, collector and API together, until Ctrl-C")
    up.add_argument("--no-sandbox", action="store_true", help="production on one host; needs TOLLWATCH_RPC_URLS")
    up.add_argument("--port", type=_port, metavar="N", help="port of the API (TOLLWATCH_PORT, 8402)")
    up.add_argument(
        "--sandbox-port", type=_port, default=8899, metavar="N", help="first of the sandbox's four ports (8899)"
    )


def _add_database(subparsers: Any) -> None:
    parser = subparsers.add_parser("db", help="the database: status, slow, explain, rebuild, url, role")
    database = parser.add_subparsers(metavar="COMMAND", required=True)
    database_commands.add_commands(database)
    _add(database, "url", commands.database_url, "print the URL of the database in use, for psql")
    rebuild = _add(database, "rebuild", maintenance.rebuild, "make rollups, totals and heads again from the facts")
    rebuild.add_argument("parts", nargs="*", type=_part, metavar="rollups|totals|heads", help="only these")
    roles = database.add_parser("role", help="logins of other programs").add_subparsers(metavar="KIND", required=True)
    reader = _add(roles, "reader", commands.reader_role, "make a login that reads one project; print its URL")
    reader.add_argument("--project", required=True, metavar="NAME")


def _add_keys(subparsers: Any) -> None:
    parser = subparsers.add_parser("keys", help="API keys: create, list, revoke, rotate")
    of_keys = parser.add_subparsers(metavar="COMMAND", required=True)
    create = _add(of_keys, "create", keys.create, "make an API key and print it, once")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--project", required=True, metavar="P")
    create.add_argument("--scopes", required=True, type=_names, metavar="ingest,read[,metrics,admin]")
    create.add_argument("--expires", type=_of(parse_duration), metavar="90d", help="how long it works (always)")
    create.add_argument("--events-per-s", type=int, metavar="N", help="its own limit (TOLLWATCH_KEY_EVENTS_PER_S)")
    create.add_argument(
        "--bytes-per-s", type=_of(parse_size), metavar="1M", help="likewise (TOLLWATCH_KEY_BYTES_PER_S)"
    )
    listed = _add(of_keys, "list", keys.show, "list keys, newest first; never their texts")
    listed.add_argument("--project", metavar="P", help="only this project's")
    listed.add_argument("--json", action="store_true", help="one JSON object per line")
    revoke = _add(of_keys, "revoke", keys.revoke, "end a key for good, everywhere within 5 s")
    rotate = _add(of_keys, "rotate", keys.rotate, "replace a key by one like it and print that, once")
    rotate.add_argument("--grace", type=_of(parse_duration), metavar="1h", help="how long the old one works yet (1h)")
    for changed in (revoke, rotate):
        changed.add_argument("prefix", metavar="PREFIX", help="its first 11 characters: tw_…")


def _of(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser of settings as argparse wants one: it says what would do."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{text!r} must be {exc}") from exc

    return parsed


def _part(text: str) -> str:
    if text not in maintenance.PARTS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(maintenance.PARTS)}")
    return text


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a TCP port, 1 to 65535")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError("one name or more, separated by commas")
    return names


if __name__ == "__main__":
    sys.exit(main())
