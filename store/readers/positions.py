"""Positions in lists: the key of the last row of a page, and the range of time that the list is of.

Fields are named as the statement's parameters: what stands after `before_` or `after_` is the row's field. The bounds
are those of the columns, so that no position, wherever it came from, is an error in the database.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

import msgspec

from store.identity import EPOCH
from store.readers.values import Row

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
RowId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$", max_length=10_000)]

END = object()
"""Stands for the end of the list's range in `Position.FIRST`."""
LAST_ID = 2**31 - 1


class Window(msgspec.Struct, frozen=True, array_like=True):
    """A range of time: `from_ts` belongs to it, `to_ts` does not."""

    from_ts: Instant
    to_ts: Instant


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended. FIRST: the values in front of the first row."""

    FIRST: ClassVar[tuple[Any, ...]] = ()

    @classmethod
    def first(cls, window: Window | None) -> Self:
        """The position in front of a list; `window` only where the list is of a range of time."""
        end = window.to_ts if window else None
        return cls(*(end if value is END else value for value in cls.FIRST))

    @classmethod
    def of(cls, row: Row) -> Self:
        """The position of a row."""
        return cls(*(getattr(row, name.partition("_")[2]) for name in cls.__struct_fields__))


class AgentPosition(Position, frozen=True, array_like=True):
    """By name."""

    FIRST = ("",)
    after_agent: Word


class BalancePosition(Position, frozen=True, array_like=True):
    """By wallet and asset."""

    FIRST = (0, 0)
    after_wallet_id: RowId
    after_asset_id: RowId


class BreakerPosition(Position, frozen=True, array_like=True):
    """By agent and component."""

    FIRST = (0, "")
    after_agent_id: RowId
    after_component: Word


class SamplePosition(Position, frozen=True, array_like=True):
    """Backwards by wallet, asset and time."""

    FIRST = (LAST_ID, LAST_ID, END)
    before_wallet_id: RowId
    before_asset_id: RowId
    before_ts: Instant


class FactPosition(Position, frozen=True, array_like=True):
    """Backwards by time and id, as facts are keyed."""

    FIRST = (END, UUID(int=0))
    before_ts: Instant
    before_id: UUID


class PaymentsBucketPosition(Position, frozen=True, array_like=True):
    """Backwards by bucket and group."""

    FIRST = (END, 0, 0, "", "", "")
    before_bucket: Instant
    before_agent_id: RowId
    before_asset_id: RowId
    before_service: Word
    before_status: Word
    before_origin: Word


class RequestsBucketPosition(Position, frozen=True, array_like=True):
    """Backwards by bucket and group."""

    FIRST = (END, 0, "", "")
    before_bucket: Instant
    before_agent_id: RowId
    before_service: Word
    before_outcome: Word


class BalancesBucketPosition(Position, frozen=True, array_like=True):
    """Backwards by bucket, wallet, asset and agent."""

    FIRST = (END, 0, 0, 0)
    before_bucket: Instant
    before_wallet_id: RowId
    before_asset_id: RowId
    before_agent_id: RowId


class SpendPosition(Position, frozen=True, array_like=True):
    """Backwards by bucket and group."""

    FIRST = (END, 0, 0, "")
    before_bucket: Instant
    before_agent_id: RowId
    before_asset_id: RowId
    before_service: Word


class RetryHealthPosition(Position, frozen=True, array_like=True):
    """Backwards by bucket and group; all totals have one bucket, the range's start."""

    FIRST = (END, 0, "")
    before_bucket: Instant
    before_agent_id: RowId
    before_service: Word


class WaitingPosition(Position, frozen=True, array_like=True):
    """By how long it waits, agent and request."""

    FIRST = (EPOCH, 0, UUID(int=0))
    after_queued_at: Instant
    after_agent_id: RowId
    after_request_id: UUID


class SessionPosition(Position, frozen=True, array_like=True):
    """By agent and session."""

    FIRST = (0, UUID(int=0))
    after_agent_id: RowId
    after_session_id: UUID


class IntervalPosition(Position, frozen=True, array_like=True):
    """Backwards by start and the event that began it."""

    FIRST = (END, UUID(int=0))
    before_started_at: Instant
    before_event_id: UUID
