"""Dashboards as files: they are what the generator writes, and Grafana can lay them out and link them."""

from __future__ import annotations

import itertools
import re

import pytest

from grafana.generate import BOARDS, DASHBOARDS, render
from tests.grafana.files import datasources, load, panels, targets


def test_the_committed_files_are_what_the_generator_writes():
    written = {path.stem: path.read_text(encoding="utf-8") for path in DASHBOARDS.glob("*.json")}
    assert written == {name: render(make()) for name, make in BOARDS.items()}, "run `python -m grafana.generate`"


@pytest.fixture(params=sorted(BOARDS))
def board(request):
    return load(request.param)


def test_ids_are_unique_and_panels_say_what_to_do(board):
    ids = [panel["id"] for panel in board["panels"]]
    assert all(ids)
    assert len(ids) == len(set(ids))
    for panel in panels(board):
        assert panel["title"]
        assert len(panel["description"]) > 30, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_fit_the_grid_and_do_not_overlap(board):
    taken = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]


def test_there_is_one_kind_of_datasource_and_the_person_looking_chooses_it(board):
    (only,) = {(found["type"], found["uid"]) for found in datasources(board)}
    (choice,) = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    assert only == (choice["query"], f"${{{choice['name']}}}")


def test_variables_that_are_used_exist_and_the_others_do_not(board):
    used = set(re.findall(r"\$\{(\w+):sqlstring\}", repr(board))) | set(re.findall(r'"\$(\w+)"', repr(board)))
    made = {variable["name"] for variable in board["templating"]["list"] if variable["type"] == "query"}
    assert used == made


def test_links_lead_to_dashboards_with_that_variable(board):
    assert [link["tags"] for link in board["links"]] == [board["tags"]]
    boards = {found["uid"]: found for found in map(load, BOARDS)}
    for uid, variable in re.findall(r"/d/([\w-]+)\?.*?var-(\w+)=", repr(board)):
        assert variable in {found["name"] for found in boards[uid]["templating"]["list"]}, (uid, variable)


def test_the_schema_is_the_classic_one(board):
    assert board["schemaVersion"] < 100
    assert "apiVersion" not in board
    assert {target["refId"] for panel in panels(board) for target in targets(panel)} <= set("ABC")
