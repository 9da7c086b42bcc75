"""`tollwatch db status`, `slow`, `explain` from the command line: a table, JSON, one line for whatever is refused."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from cli.main import main
from store.deadlines import Deadlines
from store.engine import create_engine
from store.facts import Facts
from store.writer import FactWriter
from tests.store.world import make_world, payment


@pytest.fixture
def populated(database_url, monkeypatch):
    """A database with one payment, in the environment."""

    async def populate():
        engine = create_engine(database_url, Deadlines())
        world = await make_world(engine)
        await FactWriter(engine, Deadlines()).write(Facts(payments=[payment(world)]))
        await engine.dispose()

    asyncio.run(populate())
    monkeypatch.setenv("TOLLWATCH_DATABASE_URL", database_url)


def test_status_is_a_table_and_json(populated, edition, capsys):
    assert main(["db", "status"]) == 0
    table = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in table.splitlines() if line}
    assert f"{edition} edition" in table
    assert lines["payments"][1] == "1"
    assert lines["queue_events"][1] == "0"
    assert "exact until" in table
    assert max(map(len, table.splitlines())) < 200
    assert main(["db", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    told = {relation["name"]: relation for relation in found["relations"]}
    assert (told["payments"]["rows"], told["payments"]["rows_are"]) == (1, "exact")
    assert datetime.fromisoformat(told["payments"]["newest"]) < datetime.now(UTC)
    assert {"watermark", "dirty_buckets", "exact_until", "next_job", "last_failure"} <= told["payments_hourly"].keys()
    assert found["edition"] == edition


def test_explain_prints_a_plan_and_refuses_in_a_line(populated, capsys):
    assert main(["db", "explain", "read_payments", "--analyze"]) == 0
    assert "actual" in capsys.readouterr().out
    assert main(["db", "explain", "put_agent", "--analyze"]) == 1
    assert "leave out --analyze" in capsys.readouterr().err
    assert main(["db", "explain", "nothing_of_ours"]) == 1
    assert capsys.readouterr().err.startswith("tollwatch: no statement or view 'nothing_of_ours'")


def test_slow_says_what_is_missing_in_a_line(populated, capsys):
    assert main(["db", "slow", "--limit", "3"]) == 1
    refused = capsys.readouterr().err
    assert refused.startswith("tollwatch: ")
    assert "CREATE EXTENSION pg_stat_statements" in refused
    assert refused.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["db", "slow", "--limit", "0"])
