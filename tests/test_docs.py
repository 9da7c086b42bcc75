"""The documents tell the truth: every setting, command, metric and file that they name exists, and the reverse."""

from __future__ import annotations

import re

from cli.main import build_parser
from store.settings import describe
from tests.databases import ROOT


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_setting_is_in_the_reference_and_the_example():
    listed = re.findall(r"^\| `(TOLLWATCH_\w+)` \| (.*?) \| (.*?) \|$", read("docs/settings.md"), re.MULTILINE)
    assert [tuple(row) for row in listed] == [
        (variable, f"`{default}`" if default else "", doc) for variable, default, doc in describe()
    ]
    example = re.findall(r"^# ?(TOLLWATCH_\w+)=", read(".env.example"), re.MULTILINE)
    assert example == [variable for variable, _, _ in describe()]


def test_every_command_is_in_the_readme():
    def commands(parser, prefix="tollwatch"):
        subparsers = [
            action for action in parser._actions if hasattr(action, "choices") and isinstance(action.choices, dict)
        ]
        if not subparsers:
            yield prefix
        for action in subparsers:
            for name, sub in action.choices.items():
                yield from commands(sub, f"{prefix} {name}")

    readme = read("README.md")
    for command in commands(build_parser()):
        assert f"`{command}" in readme, command


def test_links_between_documents_lead_somewhere():
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_the_directory_tour_names_every_package():
    tour = read("docs/architecture.md")
    for folder in (
        "api",
        "cli",
        "clients",
        "collector",
        "examples",
        "grafana",
        "migrations",
        "prometheus",
        "sandbox",
        "sql",
        "store",
        "tests",
        "docs",
    ):
        assert f"`{folder}/`" in tour, folder


def test_make_help_lists_every_target():
    targets = re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE)
    assert {"help", "run", "test", "check", "lock"} <= set(targets)
    readme = read("README.md")
    for target in ("run", "test", "check"):
        assert f"make {target}" in readme
