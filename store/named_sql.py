"""Named SQL: `sql/queries` and `sql/policies` hold every statement that Python sends, each named and described.

    -- name: agents_by_name
    -- Agents of one project by their names. Returns id, name, network.
    SELECT …

`sql/rollups/` has one SELECT per rollup, rendered for the edition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

TAG = "tollwatch."
"""What stands before a query's name in the comment that it is sent with."""

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class NamedQuery:
    """One statement: its name, what it is for, its text with `:name` parameters."""

    name: str
    description: str
    text: str


def _folder(name: str) -> Traversable:
    return files("sql") / name


def split(source: str, where: str) -> list[NamedQuery]:
    """The named statements of a file's text. LookupError: one has no description."""
    parts = _NAME.split(source)[1:]
    found = []
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        lines = body.strip().splitlines()
        described = [line for line in lines if line.startswith("--")]
        count = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
        description = " ".join(line.removeprefix("--").strip() for line in described[:count])
        if not description:
            raise LookupError(f"{where}: {name} has no description")
        found.append(NamedQuery(name=name, description=description, text="\n".join(lines[count:]).rstrip("; \n")))
    return found


@cache
def all_queries() -> dict[str, NamedQuery]:
    """Every named query by name. A name used twice is an error in the files."""
    queries: dict[str, NamedQuery] = {}
    items = [
        item for folder in ("policies", "queries") for item in _folder(folder).iterdir() if item.name.endswith(".sql")
    ]
    for item in sorted(items, key=lambda entry: entry.name):
        for query in split(item.read_text(encoding="utf-8"), item.name):
            if query.name in queries:
                raise LookupError(f"{item.name}: {query.name} is there twice")
            queries[query.name] = query
    return queries


@cache
def query(name: str) -> str:
    """What to send for one named query: its text behind its name, `/* tollwatch.name */`. KeyError: no such name.

    PostgreSQL keeps the comment in pg_stat_activity, in its log and in pg_stat_statements, so an operator sees which
    statement of `sql/` it is. It changes no plan and no query id.
    """
    return f"/* {TAG}{name} */ {all_queries()[name].text}"


def rendered(name: str, **values: str) -> str:
    """The same with its `{…}` replaced, by names that are ours and never a caller's."""
    statement = query(name)
    for key, value in values.items():
        statement = statement.replace("{" + key + "}", value)
    return statement


@cache
def rollup_select(rollup: str, edition: str, within: str = "true") -> str:
    """The SELECT of a rollup for an edition; `within` bounds what it reads (`ts` of facts, `bucket` of hours)."""
    bucket = "tollwatch_internal.time_bucket" if edition == "plain" else "public.time_bucket"
    source = (_folder("rollups") / f"{rollup}.sql").read_text(encoding="utf-8")
    return source.replace("{time_bucket}", bucket).replace("{range}", within)
