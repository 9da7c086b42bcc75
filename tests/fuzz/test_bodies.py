"""Bodies that are nearly right, by the thousand: no 5xx, no row that nobody was told of, no growth of memory."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections import Counter

import httpx
import zstandard

from api.body import Body
from tests.fuzz.bodies import mutated
from tests.fuzz.conftest import BODIES

SEED = int(os.environ.get("TOLLWATCH_TEST_SEED", "402"))
CLIENTS = 8
REFUSED = {400, 413, 415, 422}
GROWTH_MB = 64
"""What malloc may keep of the largest bodies; a leak of 1 kB a body would pass it in 65,000 bodies."""
ROWS = """
SELECT id::text FROM tollwatch.payments UNION ALL SELECT id::text FROM tollwatch.api_requests
UNION ALL SELECT id::text FROM tollwatch.queue_events UNION ALL SELECT id::text FROM tollwatch.audit_events WHERE origin = 'agent'
"""


class Gunner:
    """Sends bodies and keeps account of what the API said that it did."""

    def __init__(self, target):
        self.target = target
        self.statuses = Counter()
        self.ids = set()
        self.accepted = 0

    async def fire(self, bodies):
        async with httpx.AsyncClient(base_url=self.target.url, timeout=30, trust_env=False) as http:
            await asyncio.gather(*(self._one(http, bodies) for _ in range(CLIENTS)))

    async def _one(self, http, bodies):
        for body, headers in bodies:
            authorization = {"Authorization": f"Bearer {self.target.key}"}
            response = await http.post("/v1/events", content=body, headers=headers | authorization)
            self.statuses[response.status_code] += 1
            assert response.status_code in REFUSED | {200}, (response.text, body[:500], headers)
            if response.status_code == 200:
                self._account(response.json(), body, headers)

    def _account(self, answer, body, headers):
        events = plain_events(body, headers)
        refused = {one["index"] for one in answer["rejected"]}
        assert answer["accepted"] + answer["duplicates"] + len(refused) == len(events), (answer, body[:500])
        self.accepted += answer["accepted"]
        for index, event in enumerate(events):
            if index not in refused and event["type"] != "balance":
                self.ids.add(event["id"].lower())


def plain_events(body, headers):
    """The events by another decoder than the API's."""
    match headers.get("Content-Encoding"):
        case "gzip":
            whole = b""
            while body:
                member = zlib.decompressobj(31)
                whole += member.decompress(body)
                body = member.unused_data
            body = whole
        case "zstd":
            body = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    if headers["Content-Type"] == "application/json":
        try:
            return json.loads(body.decode(errors="surrogateescape"))
        except ValueError:
            # One event is no JSON in a way that does not touch the others, such as an escape that does not exist.
            return [or_none(bytes(raw)) for raw in Body(octets=body, lines=False, max_batch=10**6).split()]
    return [or_none(line) for line in body.split(b"\n") if line.strip(b" \t\r")]


def or_none(encoded):
    """An event, or None where the API must have refused it."""
    try:
        return json.loads(encoded)
    except (ValueError, RecursionError):
        return None


def test_nothing_breaks_nothing_grows_and_every_row_was_accepted(target):
    gunner = Gunner(target)
    asyncio.run(gunner.fire(mutated(SEED, max(500, BODIES // 10))))
    before = target.rss_mb()
    asyncio.run(gunner.fire(mutated(SEED + 1, BODIES)))
    after = target.rss_mb()

    assert target.alive()
    assert gunner.statuses[200] > BODIES // 10
    assert sum(gunner.statuses[status] for status in REFUSED) > BODIES // 10, gunner.statuses
    stored = [row[0] for row in target.rows(ROWS)]
    assert set(stored) == gunner.ids
    samples = target.rows("SELECT count(*) FROM tollwatch.balance_samples WHERE origin = 'agent'")[0][0]
    assert len(stored) + samples == gunner.accepted
    assert target.rows("SELECT name FROM tollwatch.agents") == [("quant-1",)]
    assert target.rows("SELECT name FROM tollwatch.projects") == [("acme",)]
    sent = sum(gunner.statuses.values())
    print(f"{sent} bodies: {dict(gunner.statuses)}, {len(stored)} rows, {before:.0f} → {after:.0f} MB")  # noqa: T201 (-s)
    assert after - before < GROWTH_MB, (before, after)
