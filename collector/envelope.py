"""JSON-RPC 2.0 envelopes: what is sent, and what an answer may look like. Error codes: Agave's custom_error.rs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from collector.accounts import decode
from collector.endpoints import Endpoint
from collector.rpc_errors import CallRejected, MalformedAnswer, NodeFault

CALLERS_FAULT = (-32600, -32601, -32602)
"""Invalid request, unknown method, invalid params: any other node would say the same."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One call; `read` turns the JSON of its result into a value, or raises MalformedAnswer."""

    method: str
    params: list[object]
    read: Callable[[msgspec.Raw], T]

    def encode(self, ident: int) -> bytes:
        """The body to send."""
        return msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "method": self.method, "params": self.params})


class _Error(msgspec.Struct):
    code: int
    message: str = ""


class _Envelope(msgspec.Struct):
    jsonrpc: Literal["2.0"]
    id: Any = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Error | None = None


def open_answer(endpoint: Endpoint, call: Call[T], ident: int, body: bytes) -> T:
    """The value in an answer's body. Raises MalformedAnswer, NodeFault, or CallRejected when the fault is ours."""
    where = f"{endpoint.label}: {call.method}"
    try:
        envelope = decode(body, _Envelope)
        _check_error(where, endpoint, envelope.error)
        _check_id(envelope, ident)
        return call.read(envelope.result)
    except MalformedAnswer as exc:
        raise MalformedAnswer(f"{where}: {endpoint.scrub(str(exc))}") from None


def _check_id(envelope: _Envelope, ident: int) -> None:
    if envelope.id != ident or isinstance(envelope.id, bool):
        raise MalformedAnswer("the answer is to another call")


def _check_error(where: str, endpoint: Endpoint, error: _Error | None) -> None:
    if error is None:
        return
    kind = CallRejected if error.code in CALLERS_FAULT else NodeFault
    raise kind(f"{where}: error {error.code}: {endpoint.scrub(error.message)}")
