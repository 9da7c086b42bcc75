"""What the tests of the API send: events that are valid unless a test says otherwise."""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime, timedelta

from solders.pubkey import Pubkey
from solders.signature import Signature

from store.identity import uuid7

PROJECT = "acme"
AGENT = "quant-1"
WALLET = str(Pubkey.from_bytes(bytes([7]) * 32))
MAINNET = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"


def new_id(seconds_ago=60.0):
    return str(uuid7(datetime.now(UTC) - timedelta(seconds=seconds_ago)))


def address():
    return str(Pubkey.from_bytes(os.urandom(32)))


def signature():
    return str(Signature(os.urandom(64)))


def payment(**more):
    return _event(
        {
            "type": "payment",
            "payment_id": str(uuid.uuid4()),
            "wallet": WALLET,
            "status": "settled",
            "amount": "1000",
            "asset": "USDC",
            "service": "https://market.example.com",
        },
        more,
    )


def api_request(**more):
    return _event(
        {
            "type": "api_request",
            "request_id": str(uuid.uuid4()),
            "service": "https://market.example.com",
            "outcome": "ok",
        },
        more,
    )


def audit(**more):
    return _event({"type": "audit", "event_type": "paused"}, more)


def queue(**more):
    return _event({"type": "queue", "request_id": str(uuid.uuid4()), "state": "queued"}, more)


def balance(**more):
    return _event(
        {"type": "balance", "wallet": WALLET, "asset": "USDC", "amount": "5", "slot": 17},
        more,
    )


def _event(members, more):
    event = {"id": new_id(), "agent": AGENT} | members | more
    return {name: value for name, value in event.items() if value is not ...}


def lines(*events):
    return "\n".join(event if isinstance(event, str) else json.dumps(event) for event in events)


async def send(client, *events):
    """POST a batch; the answer, which must be 200."""
    response = await send_raw(client, json.dumps(events))
    assert response.status_code == 200, response.text
    return response.json()


async def send_raw(client, body, content_type="application/json", **headers):
    return await client.post("/v1/events", content=body, headers={"Content-Type": content_type, **headers})


def rejection(answer):
    """The code of the one rejected event."""
    (only,) = answer["rejected"]
    return only["code"]
