"""The benches run, say what they promise, and leave no read out."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from api.app import create_app
from bench.reads import NOT_READS, ROUTES, panel_queries
from grafana.generate import BOARDS
from store.deadlines import Deadlines
from store.settings import Settings
from tests.databases import ROOT, Server
from tests.grafana.files import load, panels, targets
from tests.ports import free_ports

TINY = ("--size", "400", "--days", "1")


def run(bench: str, url: str, *arguments: str) -> list[dict]:
    environ = {"TOLLWATCH_DATABASE_URL": url, "TOLLWATCH_PORT": str(free_ports(1))}
    command = [sys.executable, "-m", f"bench.{bench}", *TINY, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def url(plain_server: Server):
    name = plain_server.clone()
    yield plain_server.url(name)
    plain_server.drop(name)


def test_each_line_has_its_figures_and_no_read_is_left_out(url):
    lines = run("queries", url, "--repeat", "1")
    for line in lines:
        assert line["bench"] == "queries"
        assert line["edition"] == "plain"
        assert 0 < line["p50_ms"] <= line["p95_ms"]
        assert line["kind"] in {"head", "aggregate", "rows"}
    cases = [line["case"] for line in lines]
    assert len(set(cases)) == len(cases)
    assert set(cases) == {route.case for route in ROUTES} | {panel.case for panel in panel_queries()}
    assert {line["case"]: line["largest_rows"] for line in lines if "largest_rows" in line}[
        "panel payments: Settled"
    ] > 0
    sizes = {line["case"]: line for line in run("storage", url)}
    assert {"payments", "api_requests", "balance_samples"} <= set(sizes)
    for line in sizes.values():
        assert line["bytes_per_row"] > line.get("entropy_bytes_per_row", 0)
        assert line["measured_rows"] > 0
    # The three identifiers of a row, and the signatures of more than a third of them.
    assert 20 + 20 < sizes["payments"]["entropy_bytes_per_row"] < 3 * 9.25 + 64


def test_every_read_of_the_api_is_measured():
    api = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing"), Deadlines()).openapi()
    reads = {path for path, methods in api["paths"].items() if "get" in methods}
    assert {route.path for route in ROUTES} == reads - NOT_READS


def test_every_panel_is_measured():
    measured = {panel.case for panel in panel_queries()}
    for name in BOARDS:
        for panel in panels(load(name)):
            if any("rawSql" in target for target in targets(panel)):
                assert f"panel {name}: {panel['title']}" in measured


def test_a_database_with_another_project_is_refused(url):
    import psycopg  # noqa: PLC0415

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO tollwatch.projects (name) VALUES ('acme')")
    with pytest.raises(AssertionError, match="holds project 'acme'"):
        run("storage", url)


def test_ingest_is_measured_beside_the_bare_database(url):
    environ = os.environ | {"TOLLWATCH_DATABASE_URL": url, "TOLLWATCH_PORT": str(free_ports(1))}
    command = [sys.executable, "-m", "bench.ingest", "--events", "1000", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for kind in ("api_request", "payment"):
        found = {line["case"]: line for line in lines if line.get("type") == kind}
        assert {"bare", "copy", "api 1000", "api 1000, 10 % repeated", "api 100", "api 1"} <= set(found)
        assert found["bare"]["ratio_to_bare"] == 1
        assert all(line["events_per_s"] > 0 for case, line in found.items() if case != "api memory")
        assert 0 < found["api 100"]["p50_ms"] <= found["api 100"]["p99_ms"]
        assert 0 < found["api memory"]["now_mb"] <= found["api memory"]["peak_mb"]
    for rival in ("influxdb", "victoria-metrics"):
        (said,) = [line for line in lines if line["case"] == rival and "type" not in line]
        assert said.get("installed") is False or said["durability"]
