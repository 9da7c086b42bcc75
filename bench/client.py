"""What the client costs an agent: the same paid purchases with and without the transport, one JSON line per case.

An agent and a seller on loopback, two requests for each purchase (challenge, payment). Calls with and without the
transport take turns, so that both meet the same machine. `_ms` is wall time as the agent waits, `cpu_ms` the CPU time
of its thread, both of a purchase. The recorder reports, from its own thread, to a neighbour of the seller that accepts
everything.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from tollwatch import Payment, Recorder, TollwatchTransport

NETWORK = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
OFFER = {
    "scheme": "exact",
    "network": NETWORK,
    "asset": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    "amount": "1000",
    "payTo": "AKnL4NNf3DGWZJS6cPknBuEGnVsV4A4m5tgebLHaRSZ9",
    "maxTimeoutSeconds": 60,
    "extra": {"feePayer": "9hSR6S7WPtxmTojgo6GG3k4yDPecgJY292j7xrsUGWBu", "memo": "m"},
}
SIGNATURE = "2oqCxTetcVv3jbPEvcUQoA3u8JkEPSUnP9zS3sPL36jnS9YSdjw69xPxHWKfmXQ46wf57rUad51xAsB6x7fUvefE"
BODY = b"x" * 2000


def encoded(document: object) -> str:
    """As x402's headers carry it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


REQUIRED = encoded({"x402Version": 2, "accepts": [OFFER]})
SETTLED = encoded({"success": True, "transaction": SIGNATURE, "network": NETWORK})


class Neighbours(BaseHTTPRequestHandler):
    """The seller (GET) and what stands for Tollwatch (POST)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Ask for payment, or sell."""
        if "payment-signature" in self.headers:
            self._answer(200, BODY, "PAYMENT-RESPONSE", SETTLED)
        else:
            self._answer(402, b"{}", "PAYMENT-REQUIRED", REQUIRED)

    def do_POST(self) -> None:
        """Take everything."""
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(200, b'{"accepted":1,"duplicates":0,"rejected":[]}', "x-bench", "1")

    def _answer(self, status: int, body: bytes, name: str, value: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def serve(port: multiprocessing.Queue[int]) -> None:
    """In a process of its own, so that it takes nothing from the agent's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Neighbours)
    port.put(server.server_address[1])
    server.serve_forever()


def purchase(http: httpx.Client, url: str, number: int) -> None:
    """Ask, sign, ask again."""
    assert http.get(url).status_code == 402
    payload = {"x402Version": 2, "payload": {"transaction": encoded(number)}, "accepted": OFFER}
    assert http.get(url, headers={"PAYMENT-SIGNATURE": encoded(payload)}).status_code == 200


def percentile(values: list[float], percent: int) -> float:
    """Interpolated."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measured(act: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU of this thread) in milliseconds."""
    wall, used = time.perf_counter(), time.thread_time()
    act()
    return (time.perf_counter() - wall) * 1000, (time.thread_time() - used) * 1000


def say(case: str, samples: list[tuple[float, float]], **figures: object) -> dict[str, float]:
    """One line; its figures."""
    walls, used = [one[0] for one in samples], [one[1] for one in samples]
    told = {
        "p50_ms": round(percentile(walls, 50), 3),
        "p99_ms": round(percentile(walls, 99), 3),
        "cpu_p50_ms": round(percentile(used, 50), 3),
        "cpu_p99_ms": round(percentile(used, 99), 3),
    }
    _print(case, len(samples), **told, **figures)
    return told


def _print(case: str, calls: int, **figures: object) -> None:
    line = {"bench": "client", "case": case, "calls": calls, **figures, "load_1min": round(os.getloadavg()[0], 1)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="What the client costs an agent's call")
    parser.add_argument("--calls", type=int, default=5000)
    calls = parser.parse_args().calls
    port: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    try:
        _run(f"http://127.0.0.1:{port.get()}", calls)
    finally:
        server.terminate()
        server.join()


def _run(url: str, calls: int) -> None:
    recorder = Recorder(url, "key", "bench")
    bare, watched = [], []
    gc.freeze()
    with (
        httpx.Client(transport=httpx.HTTPTransport()) as plain,
        httpx.Client(transport=TollwatchTransport(recorder, httpx.HTTPTransport())) as observed,
    ):
        for number in range(-50, calls):  # the first are to warm up
            one = measured(partial(purchase, plain, f"{url}/price", number))
            other = measured(partial(purchase, observed, f"{url}/price", number))
            if number >= 0:
                bare.append(one)
                watched.append(other)
    without = say("without", bare)
    told = say("with", watched)
    added = {f"added_{name}": round(told[name] - without[name], 3) for name in told}
    _print("added", calls, **added)
    event = Payment(
        payment_id=recorder.new_id(),
        status="pending",
        amount=OFFER["amount"],  # type: ignore[arg-type]
        asset=str(OFFER["asset"]),
        network=NETWORK,
        service=url,
        wallet=str(OFFER["payTo"]),
        metadata={"scheme": "exact"},
    )
    say("record", [measured(partial(recorder.record, event)) for _ in range(calls)])
    recorder.close()


if __name__ == "__main__":
    main()
