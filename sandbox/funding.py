"""The treasury, which fills agents' wallets with real transfers, and the purse that knows when one is needed."""

import asyncio
import itertools
import logging
import time

import httpx
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token.instructions import transfer_checked
from spl.token.models import TransferCheckedParams

from sandbox.chain_client import ChainClient
from sandbox.errors import RpcFault, TransferFailed
from sandbox.profiles import Profile
from sandbox.tokens import MEMO_PROGRAM_ID, Asset
from sandbox.voice import Voice, time_of

CONFIRM_TIMEOUT_S = 20.0
LOOK_EVERY = 25
"""Purchases between two looks at the balance of an agent that has a floor."""

log = logging.getLogger(__name__)


class Treasury:
    """Sends tokens of the sandbox's own wallet, and pays the fees."""

    def __init__(self, keypair: Keypair, chain: ChainClient, poll_s: float) -> None:
        self.address = str(keypair.pubkey())
        self._keypair = keypair
        self._chain = chain
        self._poll_s = poll_s

    async def send(self, asset: Asset, to: Pubkey, amount: int, memo: str) -> str:
        """Transfer, and wait until it is confirmed; the signature. Raises TransferFailed, RpcFault, httpx.HTTPError."""
        owner = self._keypair.pubkey()
        transfer = transfer_checked(
            TransferCheckedParams(
                program_id=asset.program,
                source=asset.account_of(owner),
                mint=asset.mint,
                dest=asset.account_of(to),
                owner=owner,
                amount=amount,
                decimals=asset.decimals,
            )
        )
        steps = [transfer, Instruction(MEMO_PROGRAM_ID, memo.encode(), [])]
        message = MessageV0.try_compile(owner, steps, [], await self._chain.latest_blockhash())
        signature = await self._chain.send(bytes(VersionedTransaction(message, [self._keypair])))
        await self._confirm(signature)
        return signature

    async def _confirm(self, signature: str) -> None:
        deadline = time.monotonic() + CONFIRM_TIMEOUT_S
        while time.monotonic() < deadline:
            confirmed, err = await self._chain.confirmed_error(signature)
            if err is not None:
                raise TransferFailed(f"the treasury's transfer {signature} failed: {err}")
            if confirmed:
                return
            await asyncio.sleep(self._poll_s)
        raise TransferFailed(f"the treasury's transfer {signature} was not confirmed in {CONFIRM_TIMEOUT_S:g} s")


class Purse:
    """What one agent holds of its asset. Amounts are atomic units."""

    def __init__(
        self, profile: Profile, address: Pubkey, chain: ChainClient, *, treasury: Treasury, voice: Voice
    ) -> None:
        self._profile = profile
        self._address = address
        self._account = str(profile.asset.account_of(address))
        self._chain = chain
        self._treasury = treasury
        self._voice = voice
        self._numbers = itertools.count(1)
        self._purchases = itertools.count(1)

    async def balance(self) -> int:
        """The confirmed balance. Raises RpcFault, httpx.HTTPError."""
        return await self._chain.token_balance(self._account)

    async def top_up(self, amount: int) -> None:
        """Have the treasury send `amount`, and say so. Raises as Treasury.send does."""
        asset = self._profile.asset
        memo = f"top-up {self._profile.name} {next(self._numbers)} {self._voice.new_id()}"
        signature = await self._treasury.send(asset, self._address, amount, memo)
        told = self._voice.audit(
            "topped_up",
            entity_type="transaction",
            entity_id=signature,
            details={"asset": asset.symbol, "amount": str(amount), "from": self._treasury.address},
        )
        self._voice.diary.top_ups.add(asset=asset.symbol, amount=str(amount), signature=signature, ts=time_of(told))

    async def mind_the_floor(self) -> None:
        """After a purchase: now and then look at the balance, and fill the purse again when it is under its floor."""
        floor = self._profile.floor
        if floor is None or next(self._purchases) % LOOK_EVERY:
            return
        try:
            balance = await self.balance()
            if balance < floor:
                await self.top_up(self._profile.purse - balance)
        except (TransferFailed, RpcFault, httpx.HTTPError) as exc:
            log.warning("top_up_failed agent=%s error=%s", self._profile.name, exc)
