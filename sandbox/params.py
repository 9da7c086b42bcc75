"""JSON-RPC parameters, read the way Agave reads them: positions with types, and a config object that may be absent.

Every complaint is an RpcFault -32602, so a method never sees a value of the wrong type.
"""

from collections.abc import Collection

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from sandbox.errors import RpcFault

INVALID_PARAMS = -32602
U64_MAX = 2**64 - 1
COMMITMENTS = ("processed", "confirmed", "finalized")


def invalid(message: str) -> RpcFault:
    """The fault for parameters that cannot be used."""
    return RpcFault(INVALID_PARAMS, message)


def read_pubkey(value: object) -> Pubkey:
    """The address in `value`."""
    try:
        return Pubkey.from_string(_text(value))
    except ValueError as exc:
        raise invalid(f"Invalid param: {_complaint(exc)}") from exc


def read_signature(value: object) -> Signature:
    """The signature in `value`."""
    try:
        return Signature.from_string(_text(value))
    except ValueError as exc:
        raise invalid(f"Invalid param: {_complaint(exc)}") from exc


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected a string.")
    return value


def _complaint(exc: Exception) -> str:
    """Agave's two words for a string that is no key: base58 of another length, or not base58."""
    return "WrongSize" if "size" in str(exc) else "Invalid"


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "boolean", int: "integer", float: "floating point", str: "string"}
    return names.get(type(value), "map" if isinstance(value, dict) else "sequence")


class Config:
    """The optional object at the end of a method's parameters; members nobody asks for are ignored."""

    def __init__(self, members: dict[str, object]) -> None:
        self._members = members

    def commitment(self) -> str:
        """The commitment asked for; finalized by default."""
        return self.choice("commitment", COMMITMENTS, "finalized")

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        """A string out of `allowed`."""
        value = self._members.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            options = ", ".join(f"`{one}`" for one in allowed)
            shown = value if isinstance(value, str) else _kind(value)
            raise invalid(f"Invalid params: unknown variant `{shown}`, expected one of {options}.")
        return value

    def integer(self, name: str, *, high: int = U64_MAX) -> int | None:
        """An integer from 0 to `high`, or None when absent."""
        value = self._members.get(name)
        return None if value is None else read_integer(value, high=high)

    def flag(self, name: str) -> bool:
        """A boolean; False by default."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected a boolean.")
        return bool(value)

    def signature(self, name: str) -> Signature | None:
        """A signature, or None when absent."""
        value = self._members.get(name)
        return None if value is None else read_signature(value)

    def pubkey(self, name: str) -> Pubkey | None:
        """An address, or None when absent."""
        value = self._members.get(name)
        return None if value is None else read_pubkey(value)

    def config(self, name: str) -> "Config | None":
        """A nested object, or None when absent."""
        value = self._members.get(name)
        return None if value is None else _read_config(value)

    def addresses(self, name: str) -> list[Pubkey]:
        """An array of addresses; empty when absent."""
        return [read_pubkey(one) for one in read_list(self._members.get(name) or [])]


class Params:
    """The `params` array of one call; a missing one is empty, an object is refused."""

    def __init__(self, raw: object) -> None:
        if raw is not None and not isinstance(raw, list):
            raise invalid("`params` should be an array")
        self._values: list[object] = raw or []

    def required(self, at: int) -> object:
        """The parameter at a position; a fault when there are fewer."""
        if at >= len(self._values):
            raise invalid(f"`params` should have at least {at + 1} argument(s)")
        return self._values[at]

    def pubkey(self, at: int) -> Pubkey:
        """The address at a position."""
        return read_pubkey(self.required(at))

    def signature(self, at: int) -> Signature:
        """The signature at a position."""
        return read_signature(self.required(at))

    def blockhash(self, at: int) -> Hash:
        """The blockhash at a position."""
        try:
            return Hash.from_string(_text(self.required(at)))
        except ParseHashError as exc:
            raise invalid(f"Invalid param: {_complaint(exc)}") from exc

    def text(self, at: int) -> str:
        """The string at a position."""
        return _text(self.required(at))

    def integer(self, at: int, *, high: int = U64_MAX) -> int:
        """The integer from 0 to `high` at a position."""
        return read_integer(self.required(at), high=high)

    def items(self, at: int, *, most: int) -> list[object]:
        """The array at a position, of at most `most` members."""
        values = read_list(self.required(at))
        if len(values) > most:
            raise invalid(f"Too many inputs provided; max {most}")
        return values

    def config(self, at: int, *, shorthand: str | None = None) -> Config:
        """The config at a position, empty when absent; a bare string stands for its member `shorthand`."""
        value = self._values[at] if at < len(self._values) else None
        if value is None:
            return Config({})
        if shorthand is not None and isinstance(value, str):
            return Config({shorthand: value})
        return _read_config(value)


def read_integer(value: object, *, high: int) -> int:
    """An integer from 0 to `high`; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected an integer.")
    if not 0 <= value <= high:
        raise invalid(f"Invalid params: invalid value: integer, expected 0 to {high}.")
    return value


def read_list(value: object) -> list[object]:
    """An array."""
    if not isinstance(value, list):
        raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected a sequence.")
    return value


def _read_config(value: object) -> Config:
    if not isinstance(value, dict):
        raise invalid(f"Invalid params: invalid type: {_kind(value)}, expected a map.")
    return Config(value)
