"""Accounts as JSON-RPC shows them: base58, base64 or parsed, whole or a slice.

Shapes and limits: Agave's `account-decoder` (UiAccount, parse_token.rs).
"""

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass

from solders.account import Account
from solders.pubkey import Pubkey

from sandbox import base58, tokens
from sandbox.errors import RpcFault

Decimals = Callable[[bytes], int]
"""Answers the decimals of a mint, given its 32 bytes."""

MAX_BASE58_BYTES = 128

_STATES = ("uninitialized", "initialized", "frozen")
_EXTENSIONS = {
    1: "transferFeeConfig",
    2: "transferFeeAmount",
    3: "mintCloseAuthority",
    6: "defaultAccountState",
    7: "immutableOwner",
    8: "memoTransfer",
    9: "nonTransferable",
    12: "permanentDelegate",
    14: "transferHook",
    18: "metadataPointer",
    19: "tokenMetadata",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """How a caller wants account data: the encoding, and a slice of `length` bytes from `offset`."""

    encoding: str
    offset: int = 0
    length: int | None = None

    def cut(self, data: bytes) -> bytes:
        """The part of `data` that the caller wants; empty beyond its end."""
        return data[self.offset :] if self.length is None else data[self.offset : self.offset + self.length]


def encode_account(account: Account | None, view: View, decimals_of: Decimals) -> dict[str, object] | None:
    """A UiAccount, or None for a missing account; RpcFault when base58 is asked for more than 128 bytes."""
    if account is None:
        return None
    return {
        "lamports": account.lamports,
        "data": _encode_data(account, view, decimals_of),
        "owner": str(account.owner),
        "executable": account.executable,
        "rentEpoch": account.rent_epoch,
        "space": len(account.data),
    }


def _encode_data(account: Account, view: View, decimals_of: Decimals) -> object:
    if view.encoding == "jsonParsed":
        parsed = _parse(account, decimals_of)
        if parsed is not None:
            return parsed
    data = view.cut(account.data)
    if view.encoding not in ("base58", "binary"):
        return [base64.b64encode(data).decode(), "base64"]
    if len(data) > MAX_BASE58_BYTES:
        limit = f"Encoded binary (base 58) data should be less than {MAX_BASE58_BYTES} bytes"
        raise RpcFault(-32600, f"{limit}, please use Base64 encoding.")
    text = base58.encode(data)
    return [text, "base58"] if view.encoding == "base58" else text


def _parse(account: Account, decimals_of: Decimals) -> dict[str, object] | None:
    """What Agave's token parser makes of an account; None where it has no parser, and the caller gets base64."""
    held = tokens.read_token_account(account)
    if held is not None:
        kind, info = "account", _parse_holding(account.data, held, decimals_of)
    elif tokens.is_mint(account):
        kind, info = "mint", _parse_mint(account.data)
    else:
        return None
    if account.owner == tokens.TOKEN_2022_PROGRAM_ID and len(account.data) > tokens.TOKEN_ACCOUNT_LEN:
        info["extensions"] = _extensions(account.data)
    program = "spl-token" if account.owner == tokens.TOKEN_PROGRAM_ID else "spl-token-2022"
    return {"program": program, "parsed": {"type": kind, "info": info}, "space": len(account.data)}


def _parse_holding(data: bytes, held: tokens.TokenAccount, decimals_of: Decimals) -> dict[str, object]:
    decimals = decimals_of(held.mint)
    info: dict[str, object] = {
        "isNative": data[109:113] == b"\x01\0\0\0",
        "mint": str(Pubkey.from_bytes(held.mint)),
        "owner": str(Pubkey.from_bytes(held.owner)),
        "state": _STATES[min(data[108], 2)],
        "tokenAmount": tokens.ui_amount(held.amount, decimals),
    }
    delegate, closer = _optional_key(data, 72), _optional_key(data, 129)
    if delegate is not None:
        info["delegate"] = delegate
        info["delegatedAmount"] = tokens.ui_amount(int.from_bytes(data[121:129], "little"), decimals)
    if closer is not None:
        info["closeAuthority"] = closer
    return info


def _parse_mint(data: bytes) -> dict[str, object]:
    return {
        "mintAuthority": _optional_key(data, 0),
        "supply": str(int.from_bytes(data[36:44], "little")),
        "decimals": data[44],
        "isInitialized": True,
        "freezeAuthority": _optional_key(data, 46),
    }


def _optional_key(data: bytes, offset: int) -> str | None:
    """A COption<Pubkey>: four bytes say whether 32 follow."""
    present = data[offset : offset + 4] == b"\x01\0\0\0"
    return str(Pubkey.from_bytes(data[offset + 4 : offset + 36])) if present else None


def _extensions(data: bytes) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    at = tokens.TOKEN_ACCOUNT_LEN + 1
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, at)
        if kind == 0:
            break
        found.append({"extension": _EXTENSIONS.get(kind, "unparseableExtension")})
        at += 4 + length
    return found
