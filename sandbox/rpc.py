"""The chain's JSON-RPC endpoint: envelopes, batches, and the methods' table.

Envelope rules: https://www.jsonrpc.org/specification. Whatever a body holds, the answer is an envelope with status 200;
413 is for a body that is not read at all.
"""

import logging
from collections.abc import Mapping

import msgspec

from sandbox.chain import Chain
from sandbox.errors import RpcFault
from sandbox.params import Params
from sandbox.rpc_state import Method, StateMethods
from sandbox.rpc_transactions import TransactionMethods

MAX_BATCH = 200
"""Calls in one body. More are refused as a whole: one body must not hold the event loop for long."""

_SAFE_ID = 2**63

log = logging.getLogger(__name__)

Answer = dict[str, object]


class Rpc:
    """Answers JSON-RPC bodies on behalf of one chain."""

    def __init__(self, chain: Chain) -> None:
        self._methods: Mapping[str, Method] = {
            **StateMethods(chain).table(),
            **TransactionMethods(chain).table(),
        }

    @property
    def methods(self) -> list[str]:
        """The names of the methods it has."""
        return sorted(self._methods)

    def answer(self, body: bytes) -> bytes | None:
        """The JSON to answer `body` with; None when it held only notifications, which get no answer."""
        try:
            request = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return msgspec.json.encode(_fault(None, RpcFault(-32700, "Parse error")))
        answer = self._batch(request) if isinstance(request, list) else self._call(request)
        return None if answer is None else msgspec.json.encode(answer)

    def _batch(self, requests: list[object]) -> list[Answer] | Answer | None:
        if not requests:
            return _fault(None, RpcFault(-32600, "Invalid Request"))
        if len(requests) > MAX_BATCH:
            return _fault(None, RpcFault(-32600, f"Batch of {len(requests)} calls is too large; max {MAX_BATCH}"))
        answers = [answer for answer in map(self._call, requests) if answer is not None]
        return answers or None

    def _call(self, request: object) -> Answer | None:
        ident = request.get("id") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not _is_sound(request):
            return _fault(ident if _is_id(ident) else None, RpcFault(-32600, "Invalid Request"))
        try:
            answer: Answer = {"jsonrpc": "2.0", "result": self._invoke(request), "id": ident}
        except RpcFault as fault:
            answer = _fault(ident, fault)
        except Exception:
            log.exception("rpc_method_failed", extra={"method": request["method"]})
            answer = _fault(ident, RpcFault(-32603, "Internal error"))
        return answer if "id" in request else None

    def _invoke(self, request: dict[str, object]) -> object:
        method = self._methods.get(str(request["method"]))
        if method is None:
            raise RpcFault(-32601, "Method not found")
        return method(Params(request.get("params")))


def _is_sound(request: dict[str, object]) -> bool:
    return (
        request.get("jsonrpc") == "2.0"
        and isinstance(request.get("method"), str)
        and _is_id(request.get("id"))
        and isinstance(request.get("params"), list | dict | None)
    )


def _is_id(value: object) -> bool:
    """Whether `value` may be an id: a string, null, or an integer that every client can hold."""
    if isinstance(value, int):
        return not isinstance(value, bool) and -_SAFE_ID <= value < _SAFE_ID
    return value is None or isinstance(value, str)


def _fault(ident: object, fault: RpcFault) -> Answer:
    error: Answer = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        error["data"] = fault.data
    return {"jsonrpc": "2.0", "error": error, "id": ident}
