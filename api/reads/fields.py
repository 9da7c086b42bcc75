"""Fields of answers: their schema for the documentation, and how a stored value is written.

An answer's model is written once, with these types; `write` makes items from rows by it. The model is not run through
validation: rows come from the database, and a page has a thousand of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from pydantic import BaseModel, Field

from api.times import time_text
from store.addresses import address_to_text, signature_to_text


@dataclass(frozen=True)
class Written:
    """How a stored value is written."""

    convert: Callable[[Any], Any]


def tokens(number: Decimal) -> str:
    """Whole tokens, without the zeros at the end."""
    return format(number.normalize(), "f")


def address(raw: bytes) -> str:
    """Base58 of 32 bytes; hex of anything else."""
    return address_to_text(raw) if len(raw) == 32 else raw.hex()


def signature(raw: bytes) -> str:
    """Base58 of 64 bytes; hex of anything else."""
    return signature_to_text(raw) if len(raw) == 64 else raw.hex()


def json_text(encoded: str) -> msgspec.Raw:
    """JSON that the database encoded."""
    return msgspec.Raw(encoded.encode())


Instant = Annotated[
    str,
    Written(time_text),
    Field(
        description="RFC 3339, UTC, milliseconds",
        examples=["2026-11-03T09:30:00.000Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
Amount = Annotated[str, Written(str), Field(description="Atomic units", examples=["250000"], pattern="^[0-9]+$")]
Tokens = Annotated[str, Written(tokens), Field(description="Whole tokens", examples=["0.01"])]
Address = Annotated[str, Written(address), Field(examples=["EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"])]
Signature = Annotated[str, Written(signature), Field(description="Base58 of 64 bytes")]
Digest = Annotated[str, Written(bytes.hex), Field(description="Hexadecimal")]
JsonObject = Annotated[dict[str, Any], Written(json_text)]
JsonArray = Annotated[list[Any], Written(json_text)]
Json = Annotated[Any, Written(json_text)]


def _converter(hint: object) -> Callable[[Any], Any] | None:
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        if isinstance(part, Written):
            return part.convert
        if (inner := _converter(part)) is not None:
            return inner
    return None


@cache
def _plan(model: type[BaseModel], without: frozenset[str]) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    hints = get_type_hints(model, include_extras=True)
    return tuple((name, _converter(hints[name])) for name in model.model_fields if name not in without)


def write(model: type[BaseModel], row: object, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The item of a row, for msgspec to encode: the model's fields but those in `without`."""
    item = {}
    for name, convert in _plan(model, without):
        value = getattr(row, name)
        item[name] = value if convert is None or value is None else convert(value)
    return item
