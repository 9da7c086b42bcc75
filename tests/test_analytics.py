"""docs/analytics.md: every statement runs as the reader on every edition, and answers as its page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import psycopg
import pytest

from tests.databases import ROOT, Server
from tests.grafana.story import told

QUESTION = re.compile(r"^## (\d+)\. ([^\n]+\?)\n(.*?)^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUESTIONS = QUESTION.findall((ROOT / "docs" / "analytics.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reader(server: Server) -> Iterator[psycopg.Connection]:
    """A connection as the reader of the story's project."""
    with told(server) as connection:
        yield connection


def answer(reader, number):
    """What a question's statement answers, each row by its columns' names."""
    (sql,) = [sql for found, _, _, sql in QUESTIONS if int(found) == number]
    cursor = reader.execute(sql)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_every_statement_belongs_to_a_question():
    page = (ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    assert page.count("```sql") == page.count("\n## ") == len(QUESTIONS) >= 10
    assert [int(number) for number, *_ in QUESTIONS] == list(range(1, len(QUESTIONS) + 1))


@pytest.mark.parametrize("question", QUESTIONS, ids=[f"{number}_{title}" for number, title, *_ in QUESTIONS])
def test_statements_answer_with_the_columns_of_the_page(question, reader):
    number, _, text, _ = question
    (promised,) = re.findall(r"^Columns: (.+)$", text, re.MULTILINE)
    rows = answer(reader, int(number))
    assert rows
    assert list(rows[0]) == re.findall(r"`(\w+)`", promised)
    assert all(any(row[name] is not None for row in rows) for name in rows[0]), "a column without a value"


def test_statement_and_spend_agree(reader):
    spent = reader.execute(
        "SELECT sum(tokens) FROM spend_by_service WHERE bucket > now() - INTERVAL '31 days'"
    ).fetchone()
    assert sum(row["tokens"] for row in answer(reader, 3)) == spent[0] > 0


def test_a_day_begins_with_what_the_day_before_ended_with(reader):
    wallets = {}
    for row in answer(reader, 7):
        assert row["opened"] + row["came_in"] - row["went_out"] == row["closed"]
        wallets.setdefault((row["wallet"], row["asset"]), []).append(row)
    assert all(len(days) > 1 for days in wallets.values())
    for days in wallets.values():
        for before, after in pairwise(days):
            assert after["opened"] == before["closed"]


def test_outages_end_when_the_breaker_closes(reader):
    outages = answer(reader, 5)
    assert [(row["minutes"], row["half_opened"], row["closed_at"] is None) for row in outages[1:]] == [
        (48, 1, False),
        (36, 1, False),
    ]
    assert outages[0]["closed_at"] is None


def test_the_transaction_claimed_twice_is_found(reader):
    (found,) = answer(reader, 11)
    assert found["payments"] == 2
    assert found["agents"] == "agent-0, agent-1"


def test_the_top_up_is_found(reader):
    topped_up = [row for row in answer(reader, 12) if row["asset"] == "USDC"]
    assert [(row["agent"], row["announced_at"] is not None) for row in topped_up] == [("agent-0", True)]
