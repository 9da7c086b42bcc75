"""What the API tells about its own work: ingest, its spool, limits, connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from store.spool.appender import SpoolStatus


class IngestMetrics:
    """Counts events by type, result and code. `code` is empty unless the event was rejected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "tollwatch_ingest_events",
            "Events that ingest answered, by type, result (accepted, duplicate, rejected, spooled) and rejection code.",
            ("type", "result", "code"),
            registry=registry,
        )

        self._waiting = Gauge(
            "tollwatch_ingest_waiting_events",
            "Events that wait for the database, of at most TOLLWATCH_INGEST_QUEUE.",
            registry=registry,
        )

    def watch(self, waiting: Callable[[], int]) -> None:
        """Tell what this returns as the number of events that wait."""
        self._waiting.set_function(waiting)

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


class SpoolMetrics:
    """The spool of this process, and the folder that all processes share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(f"tollwatch_spool_{name}", documentation, registry=registry)

        def counter(name: str, documentation: str, label: str) -> Counter:
            return Counter(f"tollwatch_spool_{name}", documentation, (label,), registry=registry)

        self._bytes = gauge("bytes", "Bytes that this process holds for the database.")
        self._events = gauge("events", "Events that this process holds for the database.")
        self._oldest = gauge("oldest_age_seconds", "Since when the oldest of them waits.")
        self._folder = gauge("folder_bytes", "Bytes of the folder, all processes and the quarantine together.")
        self._limit = gauge("limit_bytes", "TOLLWATCH_SPOOL_MAX.")
        self._quarantine = gauge("quarantine_bytes", "Bytes of what could not be stored.")
        self._room = gauge("has_room", "1 if one more batch would be kept, else 0.")
        self._refused = counter("refused", "Batches that the spool did not keep.", "reason")
        self._drained = counter("drained_events", "Events that left the spool, by what became of them.", "result")
        self._damaged = counter("damaged_segments", "Segments with damage: torn by a crash, or corrupt.", "damage")
        self._seen: dict[tuple[Counter, str], int] = {}

    def show(self, status: SpoolStatus) -> None:
        """Set the gauges."""
        self._bytes.set(status.bytes)
        self._events.set(status.events)
        self._oldest.set(status.oldest_age_s)
        self._folder.set(status.folder_bytes)
        self._limit.set(status.limit_bytes)
        self._quarantine.set(status.quarantine_bytes)
        self._room.set(status.has_room and status.refusal is None)

    def count(self, *, refused: Mapping[str, int], drained: Mapping[str, int], damaged: Mapping[str, int]) -> None:
        """Bring the counters to these totals."""
        for counter, totals in ((self._refused, refused), (self._drained, drained), (self._damaged, damaged)):
            for label, total in totals.items():
                counter.labels(label).inc(total - self._seen.get((counter, label), 0))
                self._seen[counter, label] = total
