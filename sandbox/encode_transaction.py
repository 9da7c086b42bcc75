"""Transactions as JSON-RPC shows them: binary, or JSON with instructions raw or parsed, and their meta.

Shapes: Agave's `transaction-status` (EncodedTransactionWithStatusMeta, parse_token.rs, parse_system.rs).
"""

import base64

from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from sandbox import base58, tokens
from sandbox.execution import AnyMessage
from sandbox.ledger import Balances, Detail, InnerInstruction, Record
from sandbox.parse_instruction import parse_instruction

Json = dict[str, object]


def encode_transaction(record: Record, encoding: str) -> Json:
    """`{transaction, meta}` of one record; `encoding` is json, jsonParsed, base64, base58 or binary."""
    detail = record.detail()
    transaction = detail.transaction()
    keys = [str(Pubkey.from_bytes(key)) for key in detail.account_keys()]
    parsed = encoding == "jsonParsed"
    body: object
    if encoding == "base64":
        body = [base64.b64encode(detail.wire).decode(), "base64"]
    elif encoding in ("base58", "binary"):
        text = base58.encode(detail.wire)
        body = [text, "base58"] if encoding == "base58" else text
    else:
        message = transaction.message
        body = {
            "signatures": [str(signature) for signature in transaction.signatures],
            "message": _message_parsed(message, detail, keys) if parsed else _message(message, keys),
        }
    return {"transaction": body, "meta": _meta(record.err, detail, keys, parsed=parsed)}


def version_of(transaction: VersionedTransaction) -> int | str:
    """0 for a versioned transaction, `legacy` for one without a version."""
    return 0 if isinstance(transaction.message, MessageV0) else "legacy"


def encode_inner(inner: tuple[tuple[InnerInstruction, ...], ...], keys: list[str], *, parsed: bool) -> list[Json]:
    """The groups of inner instructions that are not empty, each with the index of its outer instruction."""
    return [
        {"index": index, "instructions": [_instruction(one, keys, parsed=parsed) for one in group]}
        for index, group in enumerate(inner)
        if group
    ]


def encode_return_data(returned: tuple[bytes, bytes] | None) -> Json | None:
    """`{programId, data}`, or None when the program returned nothing."""
    if returned is None:
        return None
    program, data = returned
    return {"programId": str(Pubkey.from_bytes(program)), "data": [base64.b64encode(data).decode(), "base64"]}


def _instruction(one: InnerInstruction, keys: list[str], *, parsed: bool) -> Json:
    if parsed:
        return parse_instruction(one, keys)
    return {
        "programIdIndex": one.program_index,
        "accounts": list(one.accounts),
        "data": base58.encode(one.data),
        "stackHeight": one.stack_height,
    }


def _outer(message: AnyMessage) -> list[InnerInstruction]:
    """The message's own instructions, in the form that inner ones are kept in."""
    return [
        InnerInstruction(
            program_index=one.program_id_index, accounts=bytes(one.accounts), data=bytes(one.data), stack_height=1
        )
        for one in message.instructions
    ]


def _message(message: AnyMessage, keys: list[str]) -> Json:
    header = message.header
    encoded: Json = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": keys[: len(message.account_keys)],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [_instruction(one, keys, parsed=False) for one in _outer(message)],
    }
    return encoded | _lookups(message)


def _message_parsed(message: AnyMessage, detail: Detail, keys: list[str]) -> Json:
    header, static = message.header, len(message.account_keys)
    signers = header.num_required_signatures
    writable_signers = signers - header.num_readonly_signed_accounts
    writable_static = static - header.num_readonly_unsigned_accounts
    writable_loaded = static + len(detail.loaded_writable)

    def writable(index: int) -> bool:
        if index < signers:
            return index < writable_signers
        return index < (writable_static if index < static else writable_loaded)

    accounts = [
        {
            "pubkey": key,
            "signer": index < signers,
            "writable": writable(index),
            "source": "transaction" if index < static else "lookupTable",
        }
        for index, key in enumerate(keys)
    ]
    encoded: Json = {
        "accountKeys": accounts,
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [_instruction(one, keys, parsed=True) for one in _outer(message)],
    }
    return encoded | _lookups(message)


def _lookups(message: AnyMessage) -> Json:
    if not isinstance(message, MessageV0):
        return {}
    return {
        "addressTableLookups": [
            {
                "accountKey": str(lookup.account_key),
                "writableIndexes": list(bytes(lookup.writable_indexes)),
                "readonlyIndexes": list(bytes(lookup.readonly_indexes)),
            }
            for lookup in message.address_table_lookups
        ]
    }


def _meta(err: object, detail: Detail, keys: list[str], *, parsed: bool) -> Json:
    meta: Json = {
        "err": err,
        "status": {"Ok": None} if err is None else {"Err": err},
        "fee": detail.fee,
        "preBalances": list(detail.before.lamports),
        "postBalances": list(detail.after.lamports),
        "innerInstructions": encode_inner(detail.inner, keys, parsed=parsed),
        "logMessages": list(detail.logs),
        "preTokenBalances": _token_balances(detail.before),
        "postTokenBalances": _token_balances(detail.after),
        "rewards": [],
        "computeUnitsConsumed": detail.units,
    }
    if not parsed:
        meta["loadedAddresses"] = {
            "writable": [str(Pubkey.from_bytes(key)) for key in detail.loaded_writable],
            "readonly": [str(Pubkey.from_bytes(key)) for key in detail.loaded_readonly],
        }
    returned = encode_return_data(detail.return_data)
    return meta if returned is None else meta | {"returnData": returned}


def _token_balances(balances: Balances) -> list[Json]:
    return [
        {
            "accountIndex": held.index,
            "mint": str(Pubkey.from_bytes(held.mint)),
            "owner": str(Pubkey.from_bytes(held.owner)),
            "programId": str(Pubkey.from_bytes(held.program)),
            "uiTokenAmount": tokens.ui_amount(held.amount, held.decimals),
        }
        for held in balances.tokens
    ]
