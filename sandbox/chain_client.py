"""What the facilitator and the agents ask the chain, over JSON-RPC like any stranger."""

import base64
import itertools
from dataclasses import dataclass
from typing import Any

import httpx
from solders.hash import Hash
from solders.pubkey import Pubkey

from sandbox.errors import RpcFault

CALL_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Mint:
    """What a payer must know of a mint: its program (a wrong one gives a wrong account) and its decimals."""

    program: Pubkey
    decimals: int


class ChainClient:
    """A JSON-RPC client. Methods raise RpcFault for an error envelope and httpx.HTTPError when there is no answer."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url = url
        self._http = http
        self._ids = itertools.count(1)

    async def call(self, method: str, *params: object) -> Any:
        """The result of one call."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        response = await self._http.post(self._url, json=request, timeout=CALL_TIMEOUT_S)
        answer = response.raise_for_status().json()
        if "error" in answer:
            error = answer["error"]
            raise RpcFault(error["code"], error["message"], error.get("data"))
        return answer["result"]

    async def latest_blockhash(self) -> Hash:
        """The newest confirmed blockhash."""
        answer = await self.call("getLatestBlockhash", {"commitment": "confirmed"})
        return Hash.from_string(answer["value"]["blockhash"])

    async def mint(self, address: str) -> Mint:
        """The mint at `address`; RpcFault -32602 when there is none."""
        config = {"encoding": "base64", "commitment": "confirmed", "dataSlice": {"offset": 44, "length": 1}}
        account = (await self.call("getAccountInfo", address, config))["value"]
        decimals = base64.b64decode(account["data"][0]) if account is not None else b""
        if account is None or not decimals:
            raise RpcFault(-32602, f"{address} is no mint")
        return Mint(program=Pubkey.from_string(account["owner"]), decimals=decimals[0])

    async def token_balance(self, account: str) -> int:
        """The confirmed balance of a token account, in atomic units."""
        answer = await self.call("getTokenAccountBalance", account, {"commitment": "confirmed"})
        return int(answer["value"]["amount"])

    async def simulate(self, transaction: bytes) -> object:
        """The TransactionError that a fully signed transaction would end with; None when it would succeed."""
        config = {"encoding": "base64", "commitment": "confirmed", "sigVerify": True}
        answer = await self.call("simulateTransaction", base64.b64encode(transaction).decode(), config)
        return answer["value"]["err"]

    async def send(self, transaction: bytes) -> str:
        """Send without a preflight (simulate first); the signature."""
        config = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        signature: str = await self.call("sendTransaction", base64.b64encode(transaction).decode(), config)
        return signature

    async def confirmed_error(self, signature: str) -> tuple[bool, object]:
        """(whether the transaction is confirmed, its TransactionError).

        A confirmed transaction may have failed: the confirmation alone says nothing about the money.
        """
        status = (await self.call("getSignatureStatuses", [signature]))["value"][0]
        confirmed = status is not None and status["confirmationStatus"] in ("confirmed", "finalized")
        return confirmed, status["err"] if confirmed else None
