"""Runbooks: every command in them works."""

from __future__ import annotations

import json
import re

import psycopg
import pytest

from api.app import create_app
from store.deadlines import Deadlines
from store.settings import Settings, describe
from store.tables import READ_SCHEMA
from tests.prometheus.files import RUNBOOKS, documented, recorded, run, series_in

PAGES = sorted(RUNBOOKS.glob("*.md"))
ALERT_PAGES = [page for page in PAGES if page.stem != "README"]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ALERT_PAGES, ids=lambda page: page.stem)
def test_every_page_has_its_parts(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["First look", "What to do", "When it is a false alarm"]
    assert blocks(page, "promql")


def test_the_index_lists_every_page():
    listed = re.findall(r"^- \[(\w+)\]\(\1\.md\)$", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [page.stem for page in ALERT_PAGES]


def test_every_query_for_prometheus_is_one(tmp_path):
    asked = [block for page in PAGES for block in blocks(page, "promql")]
    groups = {"groups": [{"name": "x", "rules": [{"record": f"x:{n}", "expr": expr} for n, expr in enumerate(asked)]}]}
    (tmp_path / "rules.yml").write_text(json.dumps(groups))
    run("promtool", "check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_only_metrics_and_settings_that_exist(page):
    metrics = documented()
    series = {*metrics, *recorded()} | {f"{name}_bucket" for name in metrics}
    for block in blocks(page, "promql"):
        assert series_in(block) <= series
    named = set(re.findall(r"TOLLWATCH_[A-Z_]+", page.read_text()))
    assert named <= {variable for variable, _, _ in describe()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_only_paths_that_the_api_has(page):
    paths = create_app(Settings(), Deadlines()).openapi()["paths"]
    known = [re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in paths]
    for path in re.findall(r"/v1/[\w/-]*[\w]", page.read_text()):
        assert any(pattern.fullmatch(path) for pattern in known), path


def test_every_query_for_the_database_has_a_plan(database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(f"SET search_path = {READ_SCHEMA}")
        for page in PAGES:
            for block in blocks(page, "sql"):
                assert "ts > now() - interval" in block, f"{page.stem}: ts is not bounded"
                connection.execute("EXPLAIN " + block)
