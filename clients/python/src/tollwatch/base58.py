"""Base58, as Solana writes addresses and signatures."""

from __future__ import annotations

_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_LETTERS)}
MAX_LETTERS = 100
"""More than 64 bytes need; the arithmetic is quadratic."""


def decode(text: str) -> bytes:
    """The bytes; ValueError for a letter that is not base58, or for too many."""
    if len(text) > MAX_LETTERS:
        raise ValueError("too long")
    number = 0
    for letter in text:
        if letter not in _VALUES:
            raise ValueError(f"{letter!r} is not a letter of base58")
        number = number * 58 + _VALUES[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode(data: bytes) -> str:
    """The text."""
    number, letters = int.from_bytes(data, "big"), ""
    while number:
        number, value = divmod(number, 58)
        letters = _LETTERS[value] + letters
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + letters
