"""Accounts as getMultipleAccounts answers them, checked strictly: what cannot be is no value but MalformedAnswer.

Shapes: https://solana.com/docs/rpc/http/getmultipleaccounts. Layouts: `state.rs` of SPL Token and Token-2022.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec
from solders.pubkey import Pubkey
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from collector.rpc_errors import MalformedAnswer

SYSTEM_PROGRAM = bytes(32)
TOKEN_PROGRAMS = (bytes(TOKEN_PROGRAM_ID), bytes(TOKEN_2022_PROGRAM_ID))

TOKEN_ACCOUNT_HEAD = 72
"""Bytes of a token account that tell a balance: mint, owner, amount as u64 LE."""
MINT_HEAD = 166
"""Bytes that tell a mint: 82 of a plain one; a Token-2022 mint with extensions says its kind at byte 165."""

T = TypeVar("T")

_MINT_BYTES = 82
_KIND_AT = 165
_KIND_MINT = 1

_NotNegative = Annotated[int, msgspec.Meta(ge=0)]
_Slot = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Context(msgspec.Struct):
    slot: _Slot


class _Account(msgspec.Struct):
    lamports: _NotNegative
    owner: str
    data: tuple[str, Literal["base64"]]


class _AccountsAnswer(msgspec.Struct):
    context: _Context
    value: list[_Account | None]


class _AccountAnswer(msgspec.Struct):
    context: _Context
    value: _Account | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountState:
    """One account: lamports, the program that owns it (32 bytes), its data from byte 0 as far as was asked for."""

    lamports: int
    owner: bytes
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountsAt:
    """Accounts in the order asked for, None where there is none, all read at one slot."""

    slot: int
    accounts: list[AccountState | None]


def decode_accounts(result: msgspec.Raw, count: int) -> AccountsAt:
    """The result of getMultipleAccounts for `count` addresses. Raises MalformedAnswer."""
    answer = decode(result, _AccountsAnswer)
    if len(answer.value) != count:
        raise MalformedAnswer(f"{len(answer.value)} accounts where {count} were asked for")
    return AccountsAt(slot=answer.context.slot, accounts=[_state(item) for item in answer.value])


def decode_account(result: msgspec.Raw) -> AccountsAt:
    """The result of getAccountInfo, as a list of one. Raises MalformedAnswer."""
    answer = decode(result, _AccountAnswer)
    return AccountsAt(slot=answer.context.slot, accounts=[_state(answer.value)])


def decode_slot(result: msgspec.Raw) -> int:
    """The result of getSlot. Raises MalformedAnswer."""
    slot = decode(result, int)
    if not 0 <= slot < 2**63:
        raise MalformedAnswer("a slot that cannot be")
    return slot


def decode_health(result: msgspec.Raw) -> None:
    """The result of getHealth, which is "ok" and nothing else. Raises MalformedAnswer."""
    if decode(result, str) != "ok":
        raise MalformedAnswer("a health other than ok")


def decode(result: msgspec.Raw | bytes, kind: type[T]) -> T:
    """JSON of a known shape. Raises MalformedAnswer; its message names the place, not the value."""
    try:
        return msgspec.json.decode(result, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise MalformedAnswer(str(exc)[:200]) from None


def token_amount(account: AccountState, *, wallet: bytes, mint: bytes, program: bytes) -> int | None:
    """Atomic units in a token account; None: there is no token account, someone only sent lamports to its address.

    Raises MalformedAnswer for an account of another program, mint or owner, and for too few bytes.
    """
    if account.owner == SYSTEM_PROGRAM and not account.data:
        return None
    if account.owner != program:
        raise MalformedAnswer("a token account of another program")
    if len(account.data) < TOKEN_ACCOUNT_HEAD:
        raise MalformedAnswer(f"a token account of {len(account.data)} bytes")
    if account.data[:32] != mint or account.data[32:64] != wallet:
        raise MalformedAnswer("a token account of another mint or owner")
    return int.from_bytes(account.data[64:72], "little")


def mint_decimals(account: AccountState) -> int:
    """Decimals of an initialised mint of which MINT_HEAD bytes were asked for. Raises MalformedAnswer: it is none."""
    data = account.data
    extended = len(data) > _KIND_AT and data[_KIND_AT] == _KIND_MINT
    if account.owner not in TOKEN_PROGRAMS or not (len(data) == _MINT_BYTES or extended) or data[45] != 1:
        raise MalformedAnswer("not a mint")
    return data[44]


def _state(account: _Account | None) -> AccountState | None:
    if account is None:
        return None
    try:
        data = base64.b64decode(account.data[0], validate=True)
        owner = bytes(Pubkey.from_string(account.owner))
    except (binascii.Error, ValueError):
        raise MalformedAnswer("an account whose data or owner cannot be decoded") from None
    return AccountState(lamports=account.lamports, owner=owner, data=data)
