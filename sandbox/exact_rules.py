"""The facilitator's half of `exact` on Solana: is this partially signed transaction the payment that was asked for?

Rules and error codes: coinbase/x402, specs/schemes/exact/scheme_exact_svm.md and the SDK's mechanisms/svm/constants.py.
Nothing here asks the chain; the simulation comes after.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from solders.instruction import CompiledInstruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError, VersionedTransaction
from x402.schemas import PaymentPayload, PaymentRequirements

from sandbox import tokens
from sandbox.chain import NETWORK
from sandbox.errors import PaymentRefused

MAX_COMPUTE_UNIT_PRICE = 5_000_000
"""Micro-lamports for each unit of computation that the facilitator is ready to pay."""

PREFIX = "invalid_exact_svm_payload"
_SET_LIMIT, _SET_PRICE, _TRANSFER_CHECKED = 2, 3, 12


@dataclass(frozen=True, kw_only=True)
class Payment:
    """A payment transaction that obeys every rule."""

    transaction: VersionedTransaction
    payer: str


def check_payment(payload: PaymentPayload, requirements: PaymentRequirements, fee_payer: Pubkey) -> Payment:
    """The payment in `payload`; PaymentRefused with the reason when it is not what `requirements` ask for."""
    _check_terms(payload.accepted, requirements, fee_payer)
    transaction = decode_payment(payload)
    message = transaction.message
    if not isinstance(message, MessageV0) or message.address_table_lookups:
        raise PaymentRefused(f"{PREFIX}_transaction_could_not_be_decoded", "not a version 0 message without tables")
    keys = list(message.account_keys)
    if keys[0] != fee_payer:
        raise PaymentRefused("invalid_payload", "the transaction's fee payer is another")
    if not 3 <= len(message.instructions) <= 6:
        raise PaymentRefused(f"{PREFIX}_transaction_instructions_length")
    steps = [_Step.read(one, keys) for one in message.instructions]
    _check_budget(steps[0], steps[1])
    authority = _check_transfer(steps[2], requirements, fee_payer)
    _check_rest(steps[3:], requirements, str(authority))
    if any(fee_payer in step.accounts for step in steps):
        raise PaymentRefused(f"{PREFIX}_transaction_fee_payer_transferring_funds", payer=str(authority))
    _check_signature(transaction, keys.index(authority), str(authority))
    return Payment(transaction=transaction, payer=str(authority))


def decode_payment(payload: PaymentPayload) -> VersionedTransaction:
    """The transaction of a payload, sound in its indexes."""
    encoded = payload.payload.get("transaction")
    try:
        if not isinstance(encoded, str):
            raise PaymentRefused("invalid_payload", "the payload holds no transaction")
        transaction = VersionedTransaction.from_bytes(base64.b64decode(encoded, validate=True))
        transaction.sanitize()
    except (ValueError, binascii.Error, SanitizeError) as exc:
        raise PaymentRefused(f"{PREFIX}_transaction_could_not_be_decoded", str(exc)) from exc
    return transaction


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One instruction with its keys looked up."""

    program: Pubkey
    accounts: Sequence[Pubkey]
    data: bytes

    @classmethod
    def read(cls, compiled: CompiledInstruction, keys: list[Pubkey]) -> "_Step":
        return cls(
            program=keys[compiled.program_id_index],
            accounts=[keys[index] for index in bytes(compiled.accounts)],
            data=bytes(compiled.data),
        )


def _check_terms(accepted: PaymentRequirements, requirements: PaymentRequirements, fee_payer: Pubkey) -> None:
    if requirements.scheme != "exact" or accepted.scheme != "exact":
        raise PaymentRefused("unsupported_scheme")
    if requirements.network != NETWORK or accepted.network != NETWORK:
        raise PaymentRefused("network_mismatch")
    if accepted != requirements:
        raise PaymentRefused("invalid_payload", "the accepted terms are not the seller's")
    named = requirements.extra.get("feePayer")
    if not isinstance(named, str):
        raise PaymentRefused(f"{PREFIX}_missing_fee_payer")
    if named != str(fee_payer):
        raise PaymentRefused("fee_payer_not_managed_by_facilitator")


def _check_budget(limit: _Step, price: _Step) -> None:
    if limit.program != tokens.COMPUTE_BUDGET_PROGRAM_ID or len(limit.data) != 5 or limit.data[0] != _SET_LIMIT:
        raise PaymentRefused(f"{PREFIX}_transaction_instructions_compute_limit_instruction")
    if price.program != tokens.COMPUTE_BUDGET_PROGRAM_ID or len(price.data) != 9 or price.data[0] != _SET_PRICE:
        raise PaymentRefused(f"{PREFIX}_transaction_instructions_compute_price_instruction")
    if int.from_bytes(price.data[1:], "little") > MAX_COMPUTE_UNIT_PRICE:
        raise PaymentRefused(f"{PREFIX}_transaction_instructions_compute_price_instruction_too_high")


def _check_transfer(step: _Step, requirements: PaymentRequirements, fee_payer: Pubkey) -> Pubkey:
    """The owner of the money, when the transfer is the one asked for."""
    known = step.program in tokens.TOKEN_PROGRAMS and len(step.accounts) == 4
    if not known or len(step.data) != 10 or step.data[0] != _TRANSFER_CHECKED:
        raise PaymentRefused(f"{PREFIX}_no_transfer_instruction")
    _, mint, destination, authority = step.accounts
    payer = str(authority)
    if authority == fee_payer:
        raise PaymentRefused(f"{PREFIX}_transaction_fee_payer_transferring_funds", payer=payer)
    if str(mint) != requirements.asset:
        raise PaymentRefused(f"{PREFIX}_mint_mismatch", payer=payer)
    if destination != _destination(requirements, mint, step.program):
        raise PaymentRefused(f"{PREFIX}_recipient_mismatch", payer=payer)
    amount = int.from_bytes(step.data[1:9], "little")
    if str(amount) != requirements.amount:
        short = requirements.amount.isdigit() and amount < int(requirements.amount)
        raise PaymentRefused(f"{PREFIX}_amount_{'insufficient' if short else 'mismatch'}", payer=payer)
    return authority


def _destination(requirements: PaymentRequirements, mint: Pubkey, program: Pubkey) -> Pubkey:
    try:
        owner = Pubkey.from_string(requirements.pay_to)
    except ValueError as exc:
        raise PaymentRefused(f"{PREFIX}_recipient_mismatch", "payTo is no address") from exc
    return tokens.Asset(symbol="", mint=mint, program=program).account_of(owner)


def _check_rest(steps: Sequence[_Step], requirements: PaymentRequirements, payer: str) -> None:
    """After the transfer only memos may come; exactly one, and the seller's, when the seller demands it."""
    for place, step in zip(("fourth", "fifth", "sixth"), steps, strict=False):
        if step.program != tokens.MEMO_PROGRAM_ID:
            raise PaymentRefused(f"{PREFIX}_unknown_{place}_instruction", payer=payer)
    memo = requirements.extra.get("memo")
    if memo is None:
        return
    if len(steps) != 1:
        raise PaymentRefused(f"{PREFIX}_memo_count", payer=payer)
    if steps[0].data != str(memo).encode():
        raise PaymentRefused(f"{PREFIX}_memo_mismatch", payer=payer)


def _check_signature(transaction: VersionedTransaction, index: int, payer: str) -> None:
    signed = transaction.verify_with_results()
    if index >= len(signed) or not signed[index]:
        raise PaymentRefused(f"{PREFIX}_signature", "the owner of the money has not signed this", payer=payer)
