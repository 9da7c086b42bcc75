"""Addresses, signatures and mints in their network's own notation, and as the raw bytes that are stored.

Solana writes 32-byte keys and 64-byte signatures in base58 (solders does the arithmetic).
"""

from __future__ import annotations

from functools import lru_cache

from solders.pubkey import Pubkey
from solders.signature import Signature

from store.errors import InvalidValue

MAX_CACHED = 4096
"""Addresses whose bytes are remembered: a batch names the same few again and again."""

_SOLANA = "solana:"


@lru_cache(MAX_CACHED)
def address_to_bytes(network: str, text: str) -> bytes:
    """A wallet or mint address → 32 bytes. Raises InvalidValue."""
    _check_network(network)
    try:
        return bytes(Pubkey.from_string(text))
    except ValueError as exc:
        raise InvalidValue(f"{text[:64]!r} is not a base58 address of 32 bytes") from exc


def signature_to_bytes(network: str, text: str) -> bytes:
    """A transaction signature → 64 bytes. Raises InvalidValue."""
    _check_network(network)
    try:
        return bytes(Signature.from_string(text))
    except ValueError as exc:
        raise InvalidValue(f"{text[:100]!r} is not a base58 signature of 64 bytes") from exc


def address_to_text(raw: bytes) -> str:
    """32 bytes → base58."""
    return str(Pubkey.from_bytes(raw))


def signature_to_text(raw: bytes) -> str:
    """64 bytes → base58."""
    return str(Signature.from_bytes(raw))


def _check_network(network: str) -> None:
    if not network.startswith(_SOLANA):
        raise InvalidValue(f"network {network[:64]!r} is not supported; use solana:…")
