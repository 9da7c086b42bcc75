"""Bodies that are nearly right: valid batches, then bent by bytes, by members or by what carries them."""

from __future__ import annotations

import gzip
import json
import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import zstandard

from store.identity import uuid7
from tests.api.world import address, api_request, audit, balance, payment, queue, signature

ARRAY, LINES = "application/json", "application/x-ndjson"
VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308, "", "x", "\0", "\ud800", "0",
    "-1", "1e3", "01", "9" * 30, "9223372036854775807", "9223372036854775808", "x" * 101, "x" * 5000, "é" * 300, "😀",
    "'; DROP TABLE tollwatch.payments; --", "%s%n{}", "../../etc/passwd", "\\N", "\x1b[0m", [], {}, [[]], {"": {"": []}},
    {"a": "\0"}, {"k" * 9000: 1}, "infinity", "-infinity", "NaN", "2026-02-30T00:00:00Z", "1970-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff",
)  # fmt: skip
TOKENS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"\x00", b"\xff", b"\xc3", b"\\u0000", b"\\ud800", b"\n", b"\r",
    b"NaN", b"-0", b"1e999", b"1" * 40, b'"type"', b'"id":', b"[" * 200, b'{"a":' * 200, b"\xef\xbb\xbf", b"\x1f\x8b",
)  # fmt: skip


def events(rng: random.Random) -> list[dict[str, object]]:
    """A small valid batch; what is in it differs from batch to batch."""
    makers: tuple[Callable[..., dict[str, object]], ...] = (payment, api_request, audit, queue, balance)
    made = []
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        event = rng.choice(makers)(id=str(uuid7(datetime.now(UTC))))
        if event["type"] == "payment":
            event |= {"signature": signature(), "pay_to": address(), "metadata": {"note": "n" * rng.randrange(50)}}
        if event["type"] == "api_request":
            event |= {"latency_ms": rng.randrange(5000), "attempt": 1, "max_retries": 3, "request_digest": "ab" * 32}
        if event["type"] == "balance":
            event["slot"] = rng.randrange(10**9)
        made.append(event)
    return made


def bend_members(rng: random.Random, batch: list[dict[str, object]]) -> None:
    """Give some member of some event a value that it should not have, a name that is not there, or take it away."""
    event = rng.choice(batch)
    name = rng.choice(list(event))
    match rng.randrange(5):
        case 0:
            del event[name]
        case 1:
            event[rng.choice(("x", "Type", "project_id", "agent_id", "is_duplicate", "recorded_at", ""))] = event[name]
        case 2:
            event["id"] = rng.choice((str(uuid.UUID(int=rng.getrandbits(128))), batch[0].get("id")))
        case _:
            event[name] = rng.choice(VALUES)


def bend_bytes(rng: random.Random, body: bytes) -> bytes:
    """Flip, cut, repeat, splice or insert."""
    bent = bytearray(body)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(bent) + 1)
        match rng.randrange(5):
            case 0 if bent:
                bent[at % len(bent)] ^= 1 << rng.randrange(8)
            case 1:
                del bent[at : at + rng.choice((1, 2, 10, 1000))]
            case 2:
                bent[at:at] = rng.choice(TOKENS)
            case 3:
                start = rng.randrange(len(bent) + 1)
                bent[at:at] = bent[start : start + 50]
            case _:
                bent[at:at] = rng.randbytes(rng.choice((1, 4, 40)))
    return bytes(bent)


def _bomb(coding: str) -> bytes:
    zeros = b"[" + b" " * 30_000_000 + b"]"
    return gzip.compress(zeros, 6) if coding == "gzip" else zstandard.compress(zeros)


BOMBS = {coding: _bomb(coding) for coding in ("gzip", "zstd")}


def mutated(seed: int, count: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """`count` bodies and their headers, the same for the same seed but for ids, which carry the time."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 500 == 499:
            coding = rng.choice(sorted(BOMBS))
            yield BOMBS[coding], {"Content-Type": ARRAY, "Content-Encoding": coding}
            continue
        batch = events(rng)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
            bend_members(rng, batch)
        media_type = rng.choice((ARRAY, ARRAY, LINES))
        body = _encoded(batch, media_type)
        if rng.random() < 0.5:
            body = bend_bytes(rng, body)
        headers = {"Content-Type": media_type}
        if rng.random() < 0.3:
            coding = rng.choice(("gzip", "zstd"))
            body = gzip.compress(body, 1) if coding == "gzip" else zstandard.compress(body, 1)
            headers["Content-Encoding"] = coding
            if rng.random() < 0.5:
                body = bend_bytes(rng, body)
        yield body, headers


def _encoded(batch: list[dict[str, object]], media_type: str) -> bytes:
    texts = [json.dumps(event) for event in batch]
    return ("\n".join(texts) if media_type == LINES else f"[{','.join(texts)}]").encode()
