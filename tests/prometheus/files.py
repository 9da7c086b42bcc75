"""What prometheus/ and docs/runbooks/ hold, parsed, and the tools that judge it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.databases import ROOT
from tests.programs import tool

PROMETHEUS = ROOT / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    """Every rule of every group."""
    return [rule for path in RULE_FILES for group in load(path)["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that alert; a name may have one for each severity."""
    return [rule for rule in rules() if "alert" in rule]


def alert_names() -> list[str]:
    """Each once."""
    return sorted({rule["alert"] for rule in alerts()})


def recorded() -> dict[str, str]:
    """Expressions of the recorded series, by name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def series_in(expression: str) -> set[str]:
    """The names of the series that an expression asks for: tollwatch_…, and recorded ones with their colons."""
    return set(re.findall(r"(?<![\w:])(?:[a-z]+:)?tollwatch_\w+(?::\w+)?", re.sub(r'"[^"]*"', '""', expression)))


def documented() -> dict[str, dict[str, Any]]:
    """docs/metrics.md: by name the type and the labels."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(tollwatch_\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    return {name: {"type": kind, "labels": tuple(filter(None, labels.split(", ")))} for name, kind, labels in rows}


def run(name: str, *arguments: str | Path, **options: Any) -> str:
    """The output of a tool that must succeed."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
