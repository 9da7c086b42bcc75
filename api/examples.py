"""One valid event of every type, for schemas and documentation; tests send them. Their time is `EXAMPLES_TIME`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

EXAMPLES_TIME = datetime(2026, 11, 20, 12, tzinfo=UTC)
_REQUEST = "01a1f8d3-ea00-78b4-a652-e44da7f29e26"
_PAYMENT = "01a1f8d3-eafa-7e27-9365-50a4a3a65c0c"
_WALLET = "AKnL4NNf3DGWZJS6cPknBuEGnVsV4A4m5tgebLHaRSZ9"
_NETWORK = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
_SERVICE = "https://market.example.com"

EVENTS: dict[str, dict[str, Any]] = {
    "payment": {
        "type": "payment",
        "id": "01a1f8d3-ebf4-732f-8b12-24083fd22f89",
        "agent": "quant-1",
        "payment_id": _PAYMENT,
        "request_id": _REQUEST,
        "wallet": _WALLET,
        "status": "settled",
        "amount": "10000",
        "asset": "USDC",
        "network": _NETWORK,
        "pay_to": "9hSR6S7WPtxmTojgo6GG3k4yDPecgJY292j7xrsUGWBu",
        "service": _SERVICE,
        "resource": f"{_SERVICE}/v1/price/SOL",
        "facilitator": "https://facilitator.example.com",
        "signature": "2oqCxTetcVv3jbPEvcUQoA3u8JkEPSUnP9zS3sPL36jnS9YSdjw69xPxHWKfmXQ46wf57rUad51xAsB6x7fUvefE",
        "slot": 381_204_117,
        "commitment": "confirmed",
        "metadata": {"scheme": "exact", "attempt": 1},
    },
    "api_request": {
        "type": "api_request",
        "id": "01a1f8d3-ecee-71e8-9818-f8c99d5d3195",
        "agent": "quant-1",
        "request_id": _REQUEST,
        "attempt": 1,
        "max_retries": 3,
        "wallet": _WALLET,
        "service": _SERVICE,
        "endpoint_type": "market_data",
        "resource": f"{_SERVICE}/v1/price/SOL",
        "method": "GET",
        "response_status": 200,
        "x402_version": 2,
        "payment_id": _PAYMENT,
        "paid": True,
        "latency_ms": 412,
        "component": "market_data",
        "breaker_state": "closed",
        "outcome": "ok",
        "response_digest": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "response_bytes": 2,
        "data_as_of": "2026-11-20T11:59:59.5Z",
    },
    "audit": {
        "type": "audit",
        "id": "01a1f8d3-ede8-7504-990e-945de2e8e781",
        "agent": "quant-1",
        "event_type": "breaker_opened",
        "severity": "warning",
        "component": "market_data",
        "request_id": _REQUEST,
        "details": {"failures": 5, "window_s": 60},
    },
    "queue": {
        "type": "queue",
        "id": "01a1f8d3-ee7e-7d12-9c07-5b1f64c08e3a",
        "agent": "quant-1",
        "request_id": "01a1f8d3-ee1a-7a41-8d6e-2f90b7c3d514",
        "state": "queued",
        "priority_score": 0.75,
        "reason": "funds",
        "asset": "USDC",
        "network": _NETWORK,
        "balance": "4000",
        "freshness_s": 12,
    },
    "balance": {
        "type": "balance",
        "id": "01a1f8d3-eee2-7c75-b636-d85099090016",
        "agent": "quant-1",
        "wallet": _WALLET,
        "asset": "USDC",
        "amount": "4990000",
        "slot": 381_204_117,
        "commitment": "confirmed",
    },
}
