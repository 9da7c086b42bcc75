"""Solana JSON-RPC over several endpoints: bounded tries, one deadline per call, every answer checked before it is used.

An endpoint is used only after its genesis hash was found to be that of the network we record, and again after every
failure. One that fails rests (see `collector.endpoints`) while the next is asked.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from solders.pubkey import Pubkey

from collector.accounts import AccountsAt, decode, decode_account, decode_accounts, decode_health, decode_slot
from collector.endpoints import Endpoint, EndpointPool
from collector.envelope import Call, open_answer
from collector.metrics import RpcMetrics
from collector.rpc_errors import CallRejected, EndpointFault, EndpointTimeout, NoEndpoint, WrongChain
from collector.transport import Transport
from store.deadlines import Deadlines
from store.errors import RpcError

MAX_TRIES = 4
MAX_ACCOUNTS = 100
"""Of one getMultipleAccounts."""
COMMITMENT = "confirmed"
FIRST_SHARE = 0.5
"""Of the time left, what one try may take while another endpoint could be asked: one that hangs is left in time."""

T = TypeVar("T")


class SolanaRpc:
    """Calls to the endpoints of one network, `network` being its CAIP-2 id. Close it when done."""

    def __init__(
        self,
        pool: EndpointPool,
        network: str,
        deadlines: Deadlines,
        registry: CollectorRegistry,
        transport: Transport | None = None,
    ) -> None:
        self._pool = pool
        self._network = network
        self._deadline = deadlines.rpc
        self._metrics = RpcMetrics(registry)
        self._transport = transport or Transport()
        self._ids = itertools.count(1)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def get_multiple_accounts(self, addresses: Sequence[bytes], *, head: int) -> AccountsAt:
        """The first `head` bytes of up to 100 accounts, all at one confirmed slot. Raises RpcError."""
        count = len(addresses)
        if count > MAX_ACCOUNTS:
            raise CallRejected(f"getMultipleAccounts: at most {MAX_ACCOUNTS} accounts, not {count}")
        params: list[object] = [[_text(address) for address in addresses], _view(head)]
        call = Call(method="getMultipleAccounts", params=params, read=lambda raw: decode_accounts(raw, count))
        return await self._call(call)

    async def get_account_info(self, address: bytes, *, head: int) -> AccountsAt:
        """The first `head` bytes of one account, as a list of one. Raises RpcError."""
        return await self._call(
            Call(method="getAccountInfo", params=[_text(address), _view(head)], read=decode_account)
        )

    async def get_slot(self) -> int:
        """The newest confirmed slot. Raises RpcError."""
        return await self._call(Call(method="getSlot", params=[{"commitment": COMMITMENT}], read=decode_slot))

    async def get_health(self) -> None:
        """Returns when a node that calls itself healthy answered. Raises RpcError."""
        await self._call(Call(method="getHealth", params=[], read=decode_health))

    async def get_genesis_hash(self) -> str:
        """The genesis hash of the network, base58. Raises RpcError."""
        return await self._call(Call(method="getGenesisHash", params=[], read=_decode_text))

    async def _call(self, call: Call[T]) -> T:
        """Ask one endpoint after the other, MAX_TRIES times at most, within one deadline."""
        ends = time.monotonic() + self._deadline
        for _ in range(MAX_TRIES):
            endpoint = self._pool.choose()
            rest = self._pool.rest_left(endpoint)
            if time.monotonic() + rest >= ends:
                break
            await asyncio.sleep(rest)
            try:
                return await self._attempt(endpoint, call, ends)
            except EndpointFault:
                continue
        raise NoEndpoint(f"{call.method}: no endpoint answered ({self._pool.describe()})")

    async def _attempt(self, endpoint: Endpoint, call: Call[T], ends: float) -> T:
        period = endpoint.period
        try:
            await self._verify(endpoint, ends, period)
            answer = await self._ask(endpoint, call, ends)
        except EndpointFault as fault:
            self._pool.rest(endpoint, fault, period)
            raise
        self._pool.restore(endpoint, period)
        return answer

    async def _verify(self, endpoint: Endpoint, ends: float, period: int) -> None:
        """Compare the genesis hash unless that was done since the endpoint last failed; once for all who wait."""
        if endpoint.verified:
            return
        async with endpoint.lock:
            if endpoint.period != period:
                raise EndpointFault(endpoint.last_fault)
            if not endpoint.verified:
                check = partial(self._check_genesis, endpoint)
                await self._ask(endpoint, Call(method="getGenesisHash", params=[], read=check), ends)
                # A call that began before may have failed meanwhile.
                endpoint.verified = endpoint.period == period

    def _check_genesis(self, endpoint: Endpoint, raw: msgspec.Raw) -> None:
        """CAIP-2 names a network by 32 characters of its genesis hash (namespaces.chainagnostic.org/solana/caip2)."""
        found = f"solana:{_decode_text(raw)[:32]}"
        if found != self._network:
            shown = endpoint.scrub(found)
            raise WrongChain(f"{endpoint.label}: it serves {shown}, TOLLWATCH_NETWORK is {self._network}")

    async def _ask(self, endpoint: Endpoint, call: Call[T], ends: float) -> T:
        """One try, counted and timed however it ends."""
        started = time.monotonic()
        outcome = "cancelled"
        try:
            answer = await self._exchange(endpoint, call, ends)
            outcome = "ok"
        except RpcError as exc:
            outcome = getattr(exc, "outcome", "failed")
            raise
        finally:
            self._metrics.tried(endpoint.label, call.method, outcome, time.monotonic() - started)
        return answer

    async def _exchange(self, endpoint: Endpoint, call: Call[T], ends: float) -> T:
        ident = next(self._ids)
        left = max(0.0, ends - time.monotonic())
        seconds = left * FIRST_SHARE if self._pool.has_other(endpoint) else left
        try:
            async with asyncio.timeout(seconds):
                body = await self._transport.post(endpoint, call.encode(ident))
        except TimeoutError:
            raise EndpointTimeout(f"{endpoint.label}: no answer to {call.method} within {seconds:.1f} s") from None
        return open_answer(endpoint, call, ident, body)


def _text(address: bytes) -> str:
    return str(Pubkey.from_bytes(address))


def _view(head: int) -> dict[str, Any]:
    return {"commitment": COMMITMENT, "encoding": "base64", "dataSlice": {"offset": 0, "length": head}}


def _decode_text(raw: msgspec.Raw) -> str:
    return decode(raw, str)
