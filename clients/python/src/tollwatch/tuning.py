"""What a recorder may be told beside where to report: bounds, times, and the parts that tests replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from tollwatch.errors import ConfigError
from tollwatch.ids import UnixMs, system_ms

MIN_DISK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Bounds in events and bytes, times in seconds. The defaults suit an agent that buys hundreds of things a second.

    `linger_s` is how long an event waits for company. `slow_s` is between tries when a person has to look first (a
    wrong key, a wrong address). Events older than `max_age_s` are dropped: Tollwatch takes nothing older than its late
    window.
    """

    max_events: int = 10_000
    max_bytes: int = 16 * 1024**2
    disk_bytes: int = 64 * 1024**2
    batch_events: int = 500
    batch_bytes: int = 1024**2
    max_age_s: float = 7 * 86_400.0
    linger_s: float = 0.25
    request_timeout_s: float = 10.0
    first_backoff_s: float = 0.25
    max_backoff_s: float = 30.0
    max_retry_after_s: float = 300.0
    slow_s: float = 60.0
    disk_retry_s: float = 5.0
    close_s: float = 3.0
    unix_ms: UnixMs = system_ms
    http: Callable[[], httpx.Client] = field(default=httpx.Client)
    """Makes the client that reports are sent with; proxies and certificates are its business."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a bound under which nothing could be sent."""
        if min(self.max_events, self.batch_events) < 1:
            raise ConfigError("max_events and batch_events must be at least 1")
        if min(self.max_bytes, self.batch_bytes) < 64 * 1024:
            raise ConfigError("max_bytes and batch_bytes must be at least 65536, more than the largest event")
        if self.disk_bytes < MIN_DISK_BYTES:
            raise ConfigError(f"disk_bytes must be at least {MIN_DISK_BYTES}")

    def but(self, **changes: Any) -> Tuning:
        """A copy with these changes."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What Tollwatch is told about the agent before its first event, and again when it does not know the agent.

    `agent` is the body of PUT /v1/agents/{name}, `wallets` the bodies of …/wallets/{address}.
    """

    agent: Mapping[str, Any] = field(default_factory=dict)
    wallets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def paths(self, name: str) -> dict[str, Mapping[str, Any]]:
        """Path → body, in the order in which they are told."""
        base = f"/v1/agents/{name}"
        return {base: self.agent, **{f"{base}/wallets/{address}": body for address, body in self.wallets.items()}}
