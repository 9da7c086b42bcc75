"""Rejections: why one event of a batch was not stored. The others of its batch are not affected."""

from __future__ import annotations

from enum import StrEnum

import msgspec

MAX_ECHO = 100
"""Most characters of what a client sent that come back in a message."""


class Code(StrEnum):
    """Every code of a rejected event. Sending it again unchanged gets the same answer, except for those that say so."""

    MALFORMED = "malformed"
    """Not a JSON object, a member twice, or nested too deeply."""
    UNKNOWN_TYPE = "unknown_type"
    """`type` is missing or none of Tollwatch's."""
    UNKNOWN_FIELD = "unknown_field"
    """A member that this type does not have."""
    MISSING_FIELD = "missing_field"
    """A member that this type must have."""
    INVALID_FIELD = "invalid_field"
    """A member of the wrong type, length, range or form."""
    INVALID_ID = "invalid_id"
    """`id` is missing or no UUID."""
    MISSING_TS = "missing_ts"
    """`id` is no UUIDv7 and there is no `ts`."""
    INVALID_TIME = "invalid_time"
    """A time is not RFC 3339 with an offset, or not on the calendar."""
    ID_TIME_MISMATCH = "id_time_mismatch"
    """`ts` is not the time inside the UUIDv7."""
    TOO_LATE = "too_late"
    """Older than TOLLWATCH_LATE_WINDOW; it may already be stored."""
    IN_FUTURE = "in_future"
    """Further ahead than TOLLWATCH_CLOCK_SKEW; accepted once its time has come."""
    INVALID_AMOUNT = "invalid_amount"
    """`amount` or `balance` is not an integer of atomic units from 0 to 2^63 − 1."""
    UNKNOWN_AGENT = "unknown_agent"
    """No agent of that name is registered; accepted once it is."""
    INVALID_ADDRESS = "invalid_address"
    """An address or signature is not base58 of the right length."""
    UNKNOWN_ASSET = "unknown_asset"
    """`asset` is neither a symbol known on that network nor a mint."""
    TOO_MANY_UNREGISTERED = "too_many_unregistered"
    """The project named TOLLWATCH_MAX_UNREGISTERED wallets and mints that nobody registered; accepted once it is."""
    NOT_STORABLE = "not_storable"
    """The database does not take a value that Tollwatch took for good; the log and the message say what it said."""
    FORBIDDEN_ORIGIN = "forbidden_origin"
    """The key lacks the scope for this `origin`."""


class Rejected(Exception):
    """One event cannot be stored."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def alone(self) -> Rejected:
        """Itself without its past, whose frames hold the batch, which holds this: a body in a cycle stays long."""
        self.__cause__ = self.__context__ = self.__traceback__ = None
        return self


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer says about a rejected event. `id` is as sent, where it could be read."""

    index: int
    id: str | None
    code: str
    message: str


def shown(text: str) -> str:
    """What a client sent, as it may come back in a message."""
    return repr(text if len(text) <= MAX_ECHO - 10 else text[: MAX_ECHO - 11] + "…")
