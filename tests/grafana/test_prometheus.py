"""Panels on Prometheus: what they ask for is exported, and Prometheus can read it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.databases import ROOT
from tests.grafana.files import prom_expressions
from tests.programs import tool

SUFFIXES = ("", "_bucket", "_sum", "_count", "_total")


def exported() -> set[str]:
    """Names in the sources of the two programs that have a /metrics."""
    source = "\n".join(path.read_text() for folder in ("api", "collector") for path in (ROOT / folder).rglob("*.py"))
    composed = {f"tollwatch_{name}" for name in re.findall(r'_gauge\(\s*"([a-z_]+)"', source)}
    return set(re.findall(r"tollwatch_[a-z_]+", source)) | composed


@pytest.mark.parametrize("expr", prom_expressions())
def test_metrics_are_exported(expr):
    asked = set(re.findall(r"tollwatch_[a-z_]+", expr))
    assert asked
    assert not asked - {name + suffix for name in exported() for suffix in SUFFIXES}


def test_prometheus_can_read_every_expression(tmp_path):
    promtool = tool("promtool")
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(prom_expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
