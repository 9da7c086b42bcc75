"""`jsonParsed` instructions for the programs that payments use; any other is left as Agave leaves an unknown one."""

from collections.abc import Callable, Mapping

from sandbox import base58, tokens
from sandbox.ledger import InnerInstruction

Json = dict[str, object]
Parser = Callable[[list[str], bytes], tuple[str, Json] | None]
"""Takes the instruction's accounts and data; answers (type, info), or None for what it does not know."""


def parse_instruction(one: InnerInstruction, keys: list[str]) -> Json:
    """An UiInstruction: parsed where there is a parser, partially decoded elsewhere."""
    program = keys[one.program_index]
    accounts = [keys[index] for index in one.accounts]
    head: Json = {"programId": program, "stackHeight": one.stack_height}
    name, parser = _PARSERS.get(program, ("", _unknown))
    if name == "spl-memo":
        return head | {"program": name, "parsed": one.data.decode(errors="replace")}
    try:
        parsed = parser(accounts, one.data)
    except IndexError:  # fewer accounts or bytes than the instruction needs; the program refused it too
        parsed = None
    if parsed is None:
        return head | {"accounts": accounts, "data": base58.encode(one.data)}
    kind, info = parsed
    return head | {"program": name, "parsed": {"type": kind, "info": info}}


def _unknown(accounts: list[str], data: bytes) -> None:
    del accounts, data


def _u64(data: bytes, offset: int) -> int:
    if len(data) < offset + 8:
        raise IndexError(offset)
    return int.from_bytes(data[offset : offset + 8], "little")


def _system(accounts: list[str], data: bytes) -> tuple[str, Json] | None:
    if data[:4] == b"\x02\0\0\0":
        return "transfer", {"source": accounts[0], "destination": accounts[1], "lamports": _u64(data, 4)}
    return None


def _token(accounts: list[str], data: bytes) -> tuple[str, Json] | None:
    if data[0] == 3:
        info: Json = {"source": accounts[0], "destination": accounts[1], "amount": str(_u64(data, 1))}
        return "transfer", info | _authority(accounts, 2)
    if data[0] == 12:
        amount = tokens.ui_amount(_u64(data, 1), data[9])
        info = {"source": accounts[0], "mint": accounts[1], "destination": accounts[2], "tokenAmount": amount}
        return "transferChecked", info | _authority(accounts, 3)
    return None


def _authority(accounts: list[str], at: int) -> Json:
    """The owner who signs, or, when signers follow it, the multisig account and those who sign for it."""
    signers = accounts[at + 1 :]
    return {"multisigAuthority": accounts[at], "signers": signers} if signers else {"authority": accounts[at]}


def _associated(accounts: list[str], data: bytes) -> tuple[str, Json] | None:
    kinds = {b"": "create", b"\0": "create", b"\x01": "createIdempotent"}
    kind = kinds.get(data)
    if kind is None:
        return None
    names = ("source", "account", "wallet", "mint", "systemProgram", "tokenProgram")
    return kind, {name: accounts[at] for at, name in enumerate(names)}


_PARSERS: Mapping[str, tuple[str, Parser]] = {
    str(tokens.SYSTEM_PROGRAM_ID): ("system", _system),
    str(tokens.MEMO_PROGRAM_ID): ("spl-memo", _unknown),
    str(tokens.ASSOCIATED_PROGRAM_ID): ("spl-associated-token-account", _associated),
} | {str(program): ("spl-token", _token) for program in tokens.TOKEN_PROGRAMS}
