"""The load generator, a process of its own: reads an order on stdin, builds its bodies, says so, and sends on a signal.

    order (one JSON line) → "ready" → "go" → the outcome (one JSON line)

A raw socket per connection, HTTP/1.1 kept alive: an HTTP client would take more of the two cores than the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator

import msgspec

from bench.common import percentile
from bench.events import as_lines, bodies


class Order(msgspec.Struct, kw_only=True):
    """What to send. `rate`: events a second, kept to a schedule, by which latency is counted; 0: as fast as it goes."""

    port: int
    path: str
    kind: str
    events: int
    per_body: int
    connections: int
    key: str = ""
    lines: bool = False
    repeated: float = 0.0
    rate: float = 0.0
    seed: int = 1


class Outcome(msgspec.Struct, kw_only=True):
    """What came of it. Latency of one request, to the end of its answer."""

    events: int
    accepted: int
    seconds: float
    p50_ms: float
    p99_ms: float
    client_cpu_s: float


def requests(order: Order) -> Iterator[bytes]:
    """Whole requests, headers and body."""
    made = bodies(order.kind, events=order.events, per_body=order.per_body, repeated=order.repeated, seed=order.seed)
    for sequence, body in enumerate(made):
        sent = as_lines(body, sequence) if order.lines else body
        kind = "text/plain" if order.lines else "application/json"
        head = (
            f"POST {order.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(sent)}\r\n"
        )
        yield (head + (f"Authorization: Bearer {order.key}\r\n\r\n" if order.key else "\r\n")).encode() + sent


class Load:
    """One run of an order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        # All made before the first is sent: making one takes as long as the API takes to store it.
        self._left = iter(list(requests(order)))
        self._sent = self._accepted = 0
        self._seconds: list[float] = []

    async def run(self) -> Outcome:
        """Send everything."""
        cpu, self._began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(self._connection() for _ in range(self._order.connections)))
        seconds = time.perf_counter() - self._began
        return Outcome(
            events=self._sent * self._order.per_body,
            accepted=self._accepted,
            seconds=seconds,
            p50_ms=1000 * percentile(self._seconds, 50),
            p99_ms=1000 * percentile(self._seconds, 99),
            client_cpu_s=time.process_time() - cpu,
        )

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._order.port)
        for request in self._left:
            began = await self._turn()
            writer.write(request)
            await writer.drain()
            accepted = await self._answer(reader)
            self._accepted += accepted
            self._seconds.append(time.perf_counter() - began)
        writer.close()

    async def _turn(self) -> float:
        """When this request is due: now, or by the schedule, which does not wait for a server that is late."""
        number, self._sent = self._sent, self._sent + 1
        if not self._order.rate:
            return time.perf_counter()
        due = self._began + number * self._order.per_body / self._order.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        return due

    async def _answer(self, reader: asyncio.StreamReader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].split(b"\r", 1)[0]
        body = await reader.readexactly(int(length or 0))
        status = int(head.split(b" ", 2)[1])
        if status not in (200, 204):
            raise SystemExit(f"{status}: {body[:300]!r}")
        return int(json.loads(body)["accepted"]) if self._order.key else self._order.per_body


def main() -> None:
    """Serve one order."""
    load = Load(msgspec.json.decode(sys.stdin.readline(), type=Order))
    print("ready", flush=True)
    sys.stdin.readline()
    print(msgspec.json.encode(asyncio.run(load.run())).decode(), flush=True)


if __name__ == "__main__":
    main()
