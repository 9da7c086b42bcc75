"""The payer's half of x402's `exact` scheme on Solana, for the SDK's `x402Client`.

The SDK's own (`x402[svm]`) needs an older solana-py than the one Tollwatch uses.
Specification: coinbase/x402, specs/schemes/exact/scheme_exact_svm.md.
"""

import base64
import secrets
from typing import Any

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from spl.token.instructions import transfer_checked
from spl.token.models import TransferCheckedParams
from x402.schemas import PaymentCreationContext, PaymentRequirements

from sandbox import tokens
from sandbox.chain_client import ChainClient, Mint

COMPUTE_UNIT_LIMIT = 60_000
COMPUTE_UNIT_PRICE = 1
"""Micro-lamports for each unit of computation."""


class ExactSvmScheme:
    """Signs one TransferChecked for each payment, and leaves the fee and its signature to the facilitator.

    The SDK creates payloads in a plain function, and what that needs from the chain must be awaited: register `prepare`
    as the client's on_before_payment_creation hook.
    """

    scheme = "exact"

    def __init__(self, keypair: Keypair, chain: ChainClient) -> None:
        self._keypair = keypair
        self._chain = chain
        self._mints: dict[str, Mint] = {}
        self._blockhash = Hash.default()

    @staticmethod
    def find_default_asset(asset: str, network: str) -> dict[str, Any] | None:
        """What the SDK's spend control knows of an asset: {asset, decimals, symbol}; None refuses to pay with it."""
        del network
        known = tokens.ASSETS.get(asset)
        return {"asset": asset, "decimals": known.decimals, "symbol": known.symbol} if known is not None else None

    async def prepare(self, context: PaymentCreationContext) -> None:
        """Fetch a blockhash, and the mint when it is a new one."""
        asset = context.selected_requirements.asset
        if asset not in self._mints:
            self._mints[asset] = await self._chain.mint(asset)
        self._blockhash = await self._chain.latest_blockhash()

    def create_payment_payload(self, requirements: PaymentRequirements) -> dict[str, Any]:
        """`{"transaction": base64}`, partially signed; ValueError when the terms name no usable fee payer."""
        extra = requirements.extra or {}
        fee_payer = Pubkey.from_string(str(extra.get("feePayer")))
        memo = extra.get("memo") or secrets.token_hex(16)
        instructions = [
            set_compute_unit_limit(COMPUTE_UNIT_LIMIT),
            set_compute_unit_price(COMPUTE_UNIT_PRICE),
            self._transfer(requirements),
            Instruction(tokens.MEMO_PROGRAM_ID, str(memo).encode(), []),
        ]
        message = MessageV0.try_compile(fee_payer, instructions, [], self._blockhash)
        signature = self._keypair.sign_message(to_bytes_versioned(message))
        transaction = VersionedTransaction.populate(message, [Signature.default(), signature])
        return {"transaction": base64.b64encode(bytes(transaction)).decode()}

    def _transfer(self, requirements: PaymentRequirements) -> Instruction:
        mint = self._mints[requirements.asset]
        asset = tokens.Asset(
            symbol="",
            mint=Pubkey.from_string(requirements.asset),
            program=mint.program,
            decimals=mint.decimals,
        )
        owner = self._keypair.pubkey()
        return transfer_checked(
            TransferCheckedParams(
                program_id=asset.program,
                source=asset.account_of(owner),
                mint=asset.mint,
                dest=asset.account_of(Pubkey.from_string(requirements.pay_to)),
                owner=owner,
                amount=int(requirements.amount),
                decimals=asset.decimals,
            )
        )
