"""Tollwatch's client: records what an agent pays for APIs with x402, and reports it.

recorder.py   takes events and never raises, blocks or waits          transport.py  httpx transports that observe
buffer.py     events in memory      journal.py  events on disk         observer.py   exchanges → attempts, payments
delivery.py   sends them, from a thread, until they are answered for   calls.py      a logical request, its attempts
events.py     the five kinds of events, typed                          retry.py, breaker.py  helpers that tell
"""

from tollwatch.breaker import CircuitBreaker
from tollwatch.calls import EXTENSION, About, Attempt, Call, PaymentMade, Sink
from tollwatch.errors import BreakerOpen, ConfigError, InvalidEvent, TollwatchError
from tollwatch.events import ApiRequest, Audit, Balance, Event, Payment, Queue
from tollwatch.recorder import Recorder
from tollwatch.retry import Backoff, Failure, RetryPolicy, retry, retry_async
from tollwatch.stats import Stats
from tollwatch.transport import AsyncTollwatchTransport, TollwatchTransport, observe
from tollwatch.tuning import Registration, Tuning

__version__ = "0.1.0"

__all__ = [
    "EXTENSION",
    "About",
    "ApiRequest",
    "AsyncTollwatchTransport",
    "Attempt",
    "Audit",
    "Backoff",
    "Balance",
    "BreakerOpen",
    "Call",
    "CircuitBreaker",
    "ConfigError",
    "Event",
    "Failure",
    "InvalidEvent",
    "Payment",
    "PaymentMade",
    "Queue",
    "Recorder",
    "Registration",
    "RetryPolicy",
    "Sink",
    "Stats",
    "TollwatchError",
    "TollwatchTransport",
    "Tuning",
    "observe",
    "retry",
    "retry_async",
]
