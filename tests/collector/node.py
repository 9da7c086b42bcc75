"""A node that misbehaves on demand: a small HTTP server inside the test. Only faults come from here, never balances."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

MAINNET_GENESIS = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


def result(call, value):
    return Reply(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": value}).encode())


def error(call, code, message="because", **more):
    fault = {"code": code, "message": message, **more}
    return Reply(json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": fault}).encode())


def at_slot(call, value, slot=7):
    return result(call, {"context": {"slot": slot}, "value": value})


class Node:
    """Answers getGenesisHash with `genesis` and everything else with `answer(call)`, which may be awaitable."""

    def __init__(self, answer, genesis: str | Reply = MAINNET_GENESIS) -> None:
        self.answer = answer
        self.genesis = genesis
        self.calls: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def methods(self) -> list[str]:
        return [call["method"] for call in self.calls]

    def url(self, rest="") -> str:
        return f"http://127.0.0.1:{self.port}{rest}"

    @property
    def label(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader, writer):
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                self.lines.append(lines[0])
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                call = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.calls.append(call)
                await self._send(writer, await self._reply(call))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, call) -> Reply:
        if call["method"] == "getGenesisHash":
            return self.genesis if isinstance(self.genesis, Reply) else result(call, self.genesis)
        reply = self.answer(call)
        return await reply if asyncio.iscoroutine(reply) else reply

    async def _send(self, writer, reply) -> None:
        if reply.hang:
            await asyncio.Event().wait()
        headers = {"content-length": str(len(reply.body))} | reply.headers
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + reply.body)
        await writer.drain()


def through(chain_url, spoil):
    """An answer that is the real chain's, unless `spoil(call)` gives another one."""

    async def answer(call):
        reply = spoil(call)
        if reply is not None:
            return reply
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(chain_url, json=call)
        return Reply(response.content, response.status_code)

    return answer


def names(call, address) -> bool:
    """Whether a call asks for that account among others."""
    return call["method"] == "getMultipleAccounts" and str(address) in call["params"][0]
