"""What ingest tells about itself: `tollwatch_ingest_events_total`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


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
