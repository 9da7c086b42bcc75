"""Lists of what follows from facts: the queue, breakers' intervals, runway."""

from __future__ import annotations

from store.readers import positions, values_views
from store.readers.listings import Listing

QUEUE = Listing(
    query="read_queue",
    row=values_views.Waiting,
    position=positions.WaitingPosition,
    filters=("agent_id", "reason", "request_id"),
    is_of_time=False,
)
QUEUE_EVENTS = Listing(
    query="read_queue_events",
    row=values_views.QueueEntry,
    position=positions.FactPosition,
    filters=("agent_id", "reason", "request_id", "state"),
)
RUNWAY = Listing(
    query="read_runway",
    row=values_views.Runway,
    position=positions.BalancePosition,
    filters=("agent_id", "wallet_ids", "asset_ids", "status"),
    is_of_time=False,
)
BREAKER_INTERVALS = Listing(
    query="read_breaker_intervals",
    row=values_views.BreakerInterval,
    position=positions.IntervalPosition,
    filters=("agent_id", "component", "state"),
)
