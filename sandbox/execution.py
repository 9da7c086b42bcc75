"""What the virtual machine says about an execution, in the forms that this package keeps."""

from dataclasses import dataclass

import msgspec
from solders.account import Account
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from sandbox import tokens
from sandbox.ledger import InnerInstruction

AnyMessage = Message | MessageV0 | MessageV1
Inner = tuple[tuple[InnerInstruction, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A transaction's account keys: those in the message, then those that its lookup tables add."""

    static: list[Pubkey]
    writable: list[Pubkey]
    readonly: list[Pubkey]

    @property
    def keys(self) -> list[Pubkey]:
        """All of them, in the order that instructions count them."""
        return self.static + self.writable + self.readonly


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The outcome of an execution without effects; `accounts` are those it would have written."""

    err: object
    logs: tuple[str, ...] = ()
    units: int = 0
    fee: int = 0
    return_data: tuple[bytes, bytes] | None = None
    inner: Inner = ()
    accounts: dict[Pubkey, Account]


def error_of(result: FailedTransactionMetadata) -> object:
    """The TransactionError in its JSON form, which is the one that RPC nodes answer with."""
    document: dict[str, object] = msgspec.json.decode(result.to_json())
    return document["err"]


def return_data_of(meta: TransactionMetadata) -> tuple[bytes, bytes] | None:
    """(program id, data) of what the last program returned; None when it returned nothing."""
    returned = meta.return_data()
    return (bytes(returned.program_id), bytes(returned.data)) if returned.data else None


def inner_of(meta: TransactionMetadata) -> Inner:
    """The instructions that each instruction's program issued; empty when none issued any."""
    groups = meta.inner_instructions()
    if not any(groups):
        return ()
    return tuple(
        tuple(
            InnerInstruction(
                program_index=inner.instruction().program_id_index,
                accounts=bytes(inner.instruction().accounts),
                data=bytes(inner.instruction().data),
                stack_height=inner.stack_height(),
            )
            for inner in group
        )
        for group in groups
    )


def memo_of(message: AnyMessage) -> str | None:
    """The memos of a transaction as getSignaturesForAddress shows them: `[length] text`, joined by `; `."""
    keys = message.account_keys
    memos = [
        f"[{len(instruction.data)}] {bytes(instruction.data).decode(errors='replace')}"
        for instruction in message.instructions
        if instruction.program_id_index < len(keys) and keys[instruction.program_id_index] == tokens.MEMO_PROGRAM_ID
    ]
    return "; ".join(memos) or None


_DISPLAY = {
    "AccountInUse": "Account in use",
    "AccountLoadedTwice": "Account loaded twice",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SignatureFailure": "Transaction did not pass signature verification",
}


def describe(err: object) -> str:
    """A TransactionError as Rust's Display prints it, for the errors that occur here."""
    if isinstance(err, str):
        return _DISPLAY.get(err, err)
    if not isinstance(err, dict) or "InstructionError" not in err:
        return str(err)
    index, reason = err["InstructionError"]
    if isinstance(reason, dict) and "Custom" in reason:
        reason = f"custom program error: {reason['Custom']:#x}"
    return f"Error processing Instruction {index}: {reason}"
