"""What the API tells about its own work: ingest, limits, connections."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class IngestMetrics:
    """Counts events by type, result and code. `code` is empty unless the event was rejected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "tollwatch_ingest_events",
            "Events that ingest answered, by type, result (accepted, duplicate, rejected, spooled) and rejection code.",
            ("type", "result", "code"),
            registry=registry,
        )

    def count(self, event_type: str, result: str, code: str = "", number: int = 1) -> None:
        """Add `number` events."""
        if number:
            self._events.labels(event_type, result, code).inc(number)


class LimitMetrics:
    """Counts what the process refuses and cuts off; the gauges ask whoever watches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "tollwatch_requests_refused",
            "Requests that a limit refused, by limit.",
            ("limit",),
            registry=registry,
        )
        self._auth = Counter(
            "tollwatch_auth_refused",
            "Requests whose key opened nothing: missing, unknown, revoked, expired, scope, guesses.",
            ("reason",),
            registry=registry,
        )
        self._cut = Counter(
            "tollwatch_connections_cut",
            "Connections that were cut off: idle, headers, body, unread, room (for another), full (refused).",
            ("reason",),
            registry=registry,
        )
        self._connections = Gauge("tollwatch_connections", "Open connections of clients.", registry=registry)
        self._unread = Gauge("tollwatch_unread_bytes", "Answers that clients have yet to read.", registry=registry)
        self._in_flight = Gauge("tollwatch_requests_in_flight", "Requests of keys at work now.", registry=registry)
        self._bodies = Gauge("tollwatch_body_memory_bytes", "Room that request bodies hold now.", registry=registry)

    def refused(self, limit: str) -> None:
        """A limit refused a request."""
        self._refused.labels(limit).inc()

    def auth_refused(self, reason: str) -> None:
        """A key, or none, opened nothing."""
        self._auth.labels(reason).inc()

    def cut(self, reason: str) -> None:
        """A connection was cut off."""
        self._cut.labels(reason).inc()

    def watch(self, *, in_flight: Callable[[], float], body_bytes: Callable[[], float]) -> None:
        """Who knows the present values."""
        self._in_flight.set_function(in_flight)
        self._bodies.set_function(body_bytes)

    def watch_connections(self, *, count: Callable[[], float], unread: Callable[[], float]) -> None:
        """Who knows how many connections there are, and what they hold."""
        self._connections.set_function(count)
        self._unread.set_function(unread)
