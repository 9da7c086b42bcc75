"""While a migration holds its locks every route answers 503 and when to come back; then it works again."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from tests.api import world

READS = ("/v1/payments", "/v1/payments/hourly", "/v1/audit-trail", "/v1/spend", "/v1/agents", "/v1/balances")
RELATIONS = ("payments", "balance_heads", "agents")


@pytest.fixture
def deadlines(deadlines):
    return replace(deadlines, lock=0.1)


@pytest.mark.parametrize("relation", RELATIONS)
async def test_a_locked_relation_is_a_503_with_a_time_to_come_back(client, database_url, relation):
    batch = [world.payment(), world.balance()]
    ask = {path: lambda path=path: client.get(path) for path in READS}
    ask["/v1/events"] = lambda: client.post("/v1/events", json=batch)
    with psycopg.connect(database_url) as migrating:
        migrating.execute(f"LOCK TABLE tollwatch.{relation} IN ACCESS EXCLUSIVE MODE")
        held = {path: await send() for path, send in ask.items()}
        migrating.rollback()
    refused = {path for path, answer in held.items() if answer.status_code != 200}
    assert refused
    for path in refused:
        assert held[path].status_code == 503, held[path].text
        assert int(held[path].headers["retry-after"]) > 0
        assert (await ask[path]()).status_code == 200
