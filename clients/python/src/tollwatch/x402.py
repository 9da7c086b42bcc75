"""What x402's headers and bodies say, versions 1 and 2, read without trust: whatever is not as it should be is None.

Specification: coinbase/x402, specs/x402-specification-v1.md and -v2.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tollwatch import base58
from tollwatch.events import ErrorType

REQUIRED_HEADER = "PAYMENT-REQUIRED"
PAYMENT_HEADERS = ("PAYMENT-SIGNATURE", "X-PAYMENT")
SETTLEMENT_HEADERS = ("PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE")
MAX_HEADER = 64 * 1024

NETWORKS: Mapping[str, str] = {
    "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    "solana-testnet": "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z",
}
"""CAIP-2 id by the name that version 1 uses."""

SETTLE_ERRORS: Mapping[str, ErrorType] = {
    "insufficient_funds": "insufficient_funds",
    "duplicate_settlement": "duplicate",
    "settlement_pending": "timeout",
    "transaction_simulation_failed": "rpc_error",
}
"""error_type by the reason of a refused or failed settlement; any other is `rejected`."""

_AMOUNT = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_URL_REST = re.compile(r"(\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#@]*@)?([^\s?#\"']*)(?:[?#][^\s\"']*)?", re.IGNORECASE)
_URL_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#@]*@)?([^\s\"']*)", re.IGNORECASE)
_NOT_TOLD = frozenset({"outputSchema", "extensions"})
"""Members of terms that say nothing about the price."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One way to pay. `amount` is atomic units; `network` CAIP-2, or what the seller wrote."""

    scheme: str
    network: str
    asset: str
    amount: str
    pay_to: str
    fee_payer: str | None = None
    memo: str | None = None

    @property
    def on_solana(self) -> bool:
        """Whether Tollwatch can keep a payment of it."""
        return self.network.startswith("solana:")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a 402 asks for. `told` is the document as it is reported: without what is long and says nothing."""

    version: int
    offers: tuple[Offer, ...]
    error: str | None
    told: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Paying:
    """What a payment header says: `offer` in version 2; `digest` names the header; `ident` the payment, if it does."""

    version: int
    scheme: str
    network: str
    offer: Offer | None
    transaction: bytes
    digest: str
    ident: str | None


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What a settlement header claims. `told` is the document as it is reported."""

    success: bool
    reason: str | None
    signature: str | None
    payer: str | None
    amount: str | None
    told: Mapping[str, Any]


def without_secrets(text: str, *, keep_query: bool = False) -> str:
    """URLs in it without user, query and fragment."""
    return (_URL_USER if keep_query else _URL_REST).sub(r"\1\2", text) if "://" in text else text


def error_of(reason: str | None) -> ErrorType:
    """error_type of a refusal."""
    return SETTLE_ERRORS.get(reason or "", "rejected")


def terms_of_header(header: str | None) -> Terms | None:
    """The terms in a PAYMENT-REQUIRED header."""
    return None if header is None else _terms(_decode(header))


def terms_of_body(document: object) -> Terms | None:
    """The terms in the body of a 402, as version 1 has them."""
    return _terms(document)


def _terms(document: object) -> Terms | None:
    if not isinstance(document, dict) or not isinstance(document.get("accepts"), list):
        return None
    version = document.get("x402Version")
    offers = tuple(offer for offer in map(offer_of, document["accepts"]) if offer is not None)
    error = document.get("error")
    return Terms(
        version=version if version in (1, 2) else 2,
        offers=offers,
        error=error if isinstance(error, str) and error else None,
        told=_told(document),
    )


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _told(item) for name, item in value.items() if name not in _NOT_TOLD and item is not None}
    if isinstance(value, list):
        return [_told(item) for item in value[:20]]
    return without_secrets(value)[:500] if isinstance(value, str) else value


def offer_of(document: object) -> Offer | None:
    """One of the accepted ways to pay, of either version."""
    if not isinstance(document, dict):
        return None
    amount = str(document.get("amount") or document.get("maxAmountRequired") or "")
    network, asset, pay_to = (document.get(name) for name in ("network", "asset", "payTo"))
    if not all(isinstance(value, str) and value for value in (network, asset, pay_to)) or not _AMOUNT.fullmatch(amount):
        return None
    extra = document.get("extra")
    extra = extra if isinstance(extra, dict) else {}
    return Offer(
        scheme=str(document.get("scheme") or "exact"),
        network=NETWORKS.get(str(network), str(network)),
        asset=str(asset),
        amount=amount,
        pay_to=str(pay_to),
        fee_payer=_text(extra.get("feePayer")),
        memo=_text(extra.get("memo")),
    )


def paying_of(header: str) -> Paying | None:
    """The payment in a header, of either version. Of the signed transaction nothing leaves this process."""
    document = _decode(header)
    if document is None:
        return None
    accepted = document.get("accepted")
    inner = document.get("payload")
    named = accepted if isinstance(accepted, dict) else document
    network = str(named.get("network") or "")
    return Paying(
        version=2 if isinstance(accepted, dict) else 1,
        scheme=str(named.get("scheme") or ""),
        network=NETWORKS.get(network, network),
        offer=offer_of(accepted),
        transaction=_bytes(inner.get("transaction") if isinstance(inner, dict) else None),
        digest=hashlib.sha256(header.encode("latin-1", "replace")).hexdigest(),
        ident=_identifier(document.get("extensions")),
    )


def _identifier(extensions: object) -> str | None:
    """The id of the extension `payment-identifier`."""
    found: object = extensions
    for name in ("payment-identifier", "info", "id"):
        found = found.get(name) if isinstance(found, dict) else None
    return _text(found)


def settlement_of(header: str) -> Settlement | None:
    """What the seller says became of the payment: a claim, not a settlement."""
    document = _decode(header)
    if document is None or not isinstance(document.get("success"), bool):
        return None
    amount = document.get("amount")
    kept = ("success", "errorReason", "errorMessage", "payer", "transaction", "network", "amount")
    return Settlement(
        success=document["success"],
        reason=_text(document.get("errorReason")),
        signature=_signature(document.get("transaction")),
        payer=_text(document.get("payer")),
        amount=amount if isinstance(amount, str) and _AMOUNT.fullmatch(amount) else None,
        told={name: _told(document[name]) for name in kept if document.get(name) is not None},
    )


def choose(offers: tuple[Offer, ...], paying: Paying) -> Offer | None:
    """The offer that is paid: as version 2 names it; in version 1 the one whose mint is in the transaction."""
    if paying.offer is not None:
        return paying.offer
    fitting = [offer for offer in offers if (offer.scheme, offer.network) == (paying.scheme, paying.network)]
    if len(fitting) > 1:
        named = [offer for offer in fitting if _address(offer.asset) in paying.transaction]
        fitting = named or fitting
    return fitting[0] if fitting else None


def payer_of(transaction: bytes, fee_payer: str | None) -> str | None:
    """The address that signs beside the fee payer, if there is exactly one.

    A transaction is signatures (a compact length, 64 bytes each), perhaps a version byte, a header of three bytes whose
    first counts the signers, and the keys (a compact length, 32 bytes each), signers first.
    """
    try:
        count, at = transaction[0], 1 + 64 * transaction[0]
        at += transaction[at] >= 0x80
        signers, keys, at = transaction[at], transaction[at + 3], at + 4
    except IndexError:
        return None
    if not 0 < signers <= min(count, keys) or keys >= 0x80 or len(transaction) < at + 32 * signers:
        return None
    addresses = [base58.encode(transaction[at + 32 * number : at + 32 * number + 32]) for number in range(signers)]
    others = [address for address in addresses if address != fee_payer]
    return others[0] if len(others) == 1 else None


def origin_of(url: str) -> str:
    """scheme://host[:port]."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}"[:300]


def _decode(header: str) -> dict[str, Any] | None:
    if len(header) > MAX_HEADER:
        return None
    try:
        document = json.loads(base64.b64decode(header, validate=True))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _text(value: object) -> str | None:
    return value[:300] if isinstance(value, str) and value else None


def _signature(value: object) -> str | None:
    try:
        return value if isinstance(value, str) and len(base58.decode(value)) == 64 else None
    except ValueError:
        return None


def _address(text: str) -> bytes:
    try:
        return base58.decode(text)
    except ValueError:
        return b"\xff" * 33  # in no transaction's place of a key
