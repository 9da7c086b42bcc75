"""An agent that buys a price with x402, and that Tollwatch watches. `make run` first."""

import asyncio

import httpx
from tollwatch import AsyncTollwatchTransport, Recorder
from x402 import x402Client
from x402.http.clients.httpx import x402_httpx_transport

from examples.wallet import visitor

recorder = Recorder("http://127.0.0.1:8402", "tollwatch-dev", "my-agent")


async def main() -> None:
    """Buy once, and say what it gave."""
    client = visitor(x402Client(), "http://127.0.0.1:8899")
    transport = x402_httpx_transport(client, AsyncTollwatchTransport(recorder))
    async with httpx.AsyncClient(transport=transport, timeout=30) as http:
        response = await http.get("http://127.0.0.1:8901/v1/price/SOL")
        print(response.status_code, response.text)


if __name__ == "__main__":
    asyncio.run(main())
