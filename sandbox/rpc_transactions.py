"""RPC methods about transactions: sending, simulating, and finding them again."""

import base64
import binascii
from collections.abc import Mapping

from solders.message import Message, MessageV0
from solders.transaction import SanitizeError, VersionedTransaction

from sandbox import base58
from sandbox.chain import BLOCKHASH_WINDOW, FAUCET_LAMPORTS, Chain
from sandbox.encode_account import encode_account
from sandbox.encode_transaction import encode_inner, encode_return_data, encode_transaction, version_of
from sandbox.errors import RpcFault
from sandbox.execution import Simulation, describe
from sandbox.ledger import Record
from sandbox.params import Config, Params, invalid, read_signature
from sandbox.rpc_state import Method, in_context, read_slot, read_view

MAX_STATUSES = 256
MAX_SIGNATURES = 1000
MAX_WIRE_BYTES = 1232
MAX_BASE58_LETTERS = 1683
MAX_BASE64_LETTERS = 1644
MAX_VIEWED_ACCOUNTS = 100
WIRE_ENCODINGS = ("base58", "base64")
TRANSACTION_ENCODINGS = ("json", "jsonParsed", "base64", "base58", "binary")
_TYPE = "solana_transaction::versioned::VersionedTransaction"


def read_transaction(text: str, encoding: str) -> VersionedTransaction:
    """The transaction in `text`, sound in all its indexes: the virtual machine trusts them."""
    limit = MAX_BASE58_LETTERS if encoding == "base58" else MAX_BASE64_LETTERS
    if len(text) > limit:
        raise invalid(f"{encoding} encoded {_TYPE} too large: {len(text)} bytes (max: {limit}/{MAX_WIRE_BYTES})")
    try:
        wire = base58.decode(text) if encoding == "base58" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as exc:
        raise invalid(f"invalid {encoding} encoding: {exc}") from exc
    if len(wire) > MAX_WIRE_BYTES:
        raise invalid(f"decoded {_TYPE} too large: {len(wire)} bytes (max: {MAX_WIRE_BYTES} bytes)")
    try:
        transaction = VersionedTransaction.from_bytes(wire)
        transaction.sanitize()
    except ValueError as exc:
        raise invalid(f"failed to deserialize {_TYPE}: {exc}") from exc
    except SanitizeError as exc:
        raise invalid("invalid transaction: Transaction failed to sanitize accounts offsets correctly") from exc
    if not isinstance(transaction.message, Message | MessageV0):
        raise invalid("invalid transaction: Transaction version is unsupported")
    return transaction


class TransactionMethods:
    """Every method that sends transactions or reads the ledger."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def table(self) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            "sendTransaction": self._send,
            "simulateTransaction": self._simulate,
            "requestAirdrop": self._airdrop,
            "getSignatureStatuses": self._statuses,
            "getSignaturesForAddress": self._signatures,
            "getTransaction": self._transaction,
        }

    def _send(self, params: Params) -> str:
        """The preflight looks at the processed state, whatever commitment is asked for: there is only that one."""
        config = params.config(1)
        transaction = read_transaction(params.text(0), config.choice("encoding", WIRE_ENCODINGS, "base58"))
        config.choice("preflightCommitment", ("processed", "confirmed", "finalized"), "finalized")
        config.integer("maxRetries")
        read_slot(self._chain, config)
        if not config.flag("skipPreflight"):
            self._preflight(transaction)
        # Without a preflight a node answers with the signature and drops what cannot enter a block, silently.
        self._chain.execute(transaction)
        return str(transaction.signatures[0])

    def _preflight(self, transaction: VersionedTransaction) -> None:
        simulation = self._try(transaction, signatures=True)
        if simulation.err is not None:
            text = f"Transaction simulation failed: {describe(simulation.err)}"
            raise RpcFault(-32002, text, self._encode_simulation(simulation, None))

    def _try(self, transaction: VersionedTransaction, *, signatures: bool, blockhash: bool = True) -> Simulation:
        """Simulate after the checks that were asked for; a bad signature is an error of the call itself."""
        objection = self._chain.objection(transaction, signatures=signatures)
        if objection == "SignatureFailure":
            raise RpcFault(-32003, "Transaction signature verification failure")
        if objection is not None and (blockhash or objection != "BlockhashNotFound"):
            return Simulation(err=objection, accounts={})
        return self._chain.simulate(transaction)

    def _simulate(self, params: Params) -> object:
        config = params.config(1)
        transaction = read_transaction(params.text(0), config.choice("encoding", WIRE_ENCODINGS, "base58"))
        verify, replace = config.flag("sigVerify"), config.flag("replaceRecentBlockhash")
        if verify and replace:
            raise invalid("sigVerify may not be used with replaceRecentBlockhash")
        read_slot(self._chain, config)
        simulation = self._try(transaction, signatures=verify, blockhash=not replace)
        encoded = self._encode_simulation(simulation, config.config("accounts"))
        if replace:
            blockhash, slot = self._chain.latest_blockhash(config.commitment())
            last = slot + BLOCKHASH_WINDOW
            encoded["replacementBlockhash"] = {"blockhash": str(blockhash), "lastValidBlockHeight": last}
        return in_context(self._chain.slot(), encoded)

    def _encode_simulation(self, simulation: Simulation, wanted: Config | None) -> dict[str, object]:
        return {
            "err": simulation.err,
            "logs": list(simulation.logs),
            "accounts": self._encode_accounts(simulation, wanted) if wanted is not None else None,
            "unitsConsumed": simulation.units,
            "fee": simulation.fee,
            "returnData": encode_return_data(simulation.return_data),
            "innerInstructions": encode_inner(simulation.inner, [], parsed=False),
        }

    def _encode_accounts(self, simulation: Simulation, wanted: Config) -> list[object]:
        view = read_view(wanted, "base64")
        if view.encoding in ("base58", "binary"):
            raise invalid("base58 encoding not supported")
        addresses = wanted.addresses("addresses")
        if len(addresses) > MAX_VIEWED_ACCOUNTS:
            raise invalid(f"Too many accounts provided; max {MAX_VIEWED_ACCOUNTS}")
        slot = self._chain.slot()
        return [
            encode_account(
                simulation.accounts.get(address) or self._chain.account(address, slot), view, self._chain.decimals_of
            )
            for address in addresses
        ]

    def _airdrop(self, params: Params) -> str:
        address, lamports = params.pubkey(0), params.integer(1, high=FAUCET_LAMPORTS)
        params.config(2).commitment()
        transaction = self._chain.airdrop(address, lamports)
        record = self._chain.execute(transaction)
        if record is None or record.err is not None:
            raise RpcFault(-32603, "Internal error: the faucet cannot pay that")
        return str(transaction.signatures[0])

    def _statuses(self, params: Params) -> object:
        signatures = [read_signature(one) for one in params.items(0, most=MAX_STATUSES)]
        params.config(1).flag("searchTransactionHistory")
        found = (self._chain.ledger.get(bytes(signature)) for signature in signatures)
        return in_context(self._chain.slot(), [self._status(record) if record else None for record in found])

    def _status(self, record: Record) -> dict[str, object]:
        reached = self._commitment(record)
        return {
            "slot": record.slot,
            "confirmations": None if reached == "finalized" else self._chain.slot() - record.slot,
            "err": record.err,
            "status": {"Ok": None} if record.err is None else {"Err": record.err},
            "confirmationStatus": reached,
        }

    def _commitment(self, record: Record) -> str:
        reached = (one for one in ("finalized", "confirmed") if record.slot <= self._chain.slot_at(one))
        return next(reached, "processed")

    def _signatures(self, params: Params) -> list[dict[str, object]]:
        address, config = params.pubkey(0), params.config(1)
        limit = config.integer("limit")
        if limit is not None and not 1 <= limit <= MAX_SIGNATURES:
            raise invalid(f"Invalid limit; max {MAX_SIGNATURES}")
        before, until = config.signature("before"), config.signature("until")
        slot = self._settled_slot(config)
        older = bytes(before) if before is not None else None
        newer = bytes(until) if until is not None else None
        named = self._chain.ledger.naming(bytes(address), before=older, until=newer)
        found: list[dict[str, object]] = []
        for record in named:
            if len(found) == (limit or MAX_SIGNATURES):
                break
            if record.slot <= slot:
                found.append(self._summary(record))
        return found

    def _summary(self, record: Record) -> dict[str, object]:
        return {
            "signature": base58.encode(record.signature),
            "slot": record.slot,
            "err": record.err,
            "memo": record.memo,
            "blockTime": record.block_time,
            "confirmationStatus": self._commitment(record),
        }

    def _transaction(self, params: Params) -> object:
        signature, config = params.signature(0), params.config(1, shorthand="encoding")
        encoding = config.choice("encoding", TRANSACTION_ENCODINGS, "json")
        newest_version = config.integer("maxSupportedTransactionVersion", high=255)
        slot = self._settled_slot(config)
        record = self._chain.ledger.get(bytes(signature))
        if record is None or record.slot > slot:
            return None
        version = version_of(record.detail().transaction())
        if version != "legacy" and newest_version is None:
            raise RpcFault(-32015, _UNSUPPORTED_VERSION)
        answer: dict[str, object] = {"slot": record.slot, "blockTime": record.block_time}
        answer |= encode_transaction(record, encoding)
        return answer if newest_version is None else answer | {"version": version}

    def _settled_slot(self, config: Config) -> int:
        """The slot of a read of history, for which processed is not enough."""
        if config.commitment() == "processed":
            raise invalid("Method does not support commitment below `confirmed`")
        return read_slot(self._chain, config)


_UNSUPPORTED_VERSION = (
    "Transaction version (0) is not supported by the requesting client. "
    'Please try the request again with the following configuration parameter: "maxSupportedTransactionVersion": 0'
)
