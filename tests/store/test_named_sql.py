"""SQL lives in sql/, described, used, and equal to what the revisions froze."""

from __future__ import annotations

import re
from pathlib import Path

from store.horizons import ROLLUPS
from store.named_sql import all_queries, query, rollup_select
from tests.databases import ROOT

SQL = ROOT / "sql"
SENDS_SQL = re.compile(r"[\"'](SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|COPY)\s")


def newest_frozen(folder: str, name: str) -> Path:
    found = sorted((ROOT / "migrations" / "versions").glob(f"r*/{folder}/{name}.sql"))
    assert found, f"no revision makes {folder}/{name}"
    return found[-1]


def test_views_and_rollups_are_what_the_newest_revision_froze():
    for folder in ("core_views", "views", "rollups"):
        files = sorted((SQL / folder).glob("*.sql"))
        assert files
        for file in files:
            assert newest_frozen(folder, file.stem).read_text() == file.read_text(), file


def test_every_rollup_has_its_select():
    assert {rollup.name for rollup in ROLLUPS} == {file.stem for file in (SQL / "rollups").glob("*.sql")}
    for rollup in ROLLUPS:
        assert "tollwatch_internal.time_bucket" in rollup_select(rollup.name, "plain")
        assert "public.time_bucket" in rollup_select(rollup.name, "community")


def test_every_query_is_described_and_used():
    python = "".join(file.read_text() for file in (ROOT / "store").rglob("*.py"))
    composed = [re.sub(r"\\{\w+\\}", r"\\w+", re.escape(found)) for found in re.findall(r'f"(\w*\{\w+\}\w*)"', python)]
    for name, found in all_queries().items():
        assert len(found.description) > 10, name
        used = re.search(rf"[\"']{name}[\"']", python) or any(re.fullmatch(pattern, name) for pattern in composed)
        assert used, f"{name} is used nowhere"


def test_python_outside_store_holds_no_sql():
    for folder in ("api", "cli", "collector"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not SENDS_SQL.search(file.read_text()), file


def test_a_query_keeps_its_comments_out_of_its_text():
    sent = "/* tollwatch.recorded_edition */ SELECT edition FROM tollwatch.schema_info"
    assert query("recorded_edition") == sent
