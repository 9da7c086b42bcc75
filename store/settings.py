"""Settings: the only reader of the environment.

Every setting is a field of `Settings` whose metadata names its variable and says what it is for; docs and `tollwatch
settings` are printed from there. Unknown `TOLLWATCH_…` variables are refused, so that a typing error cannot pass in
silence.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from store.errors import SettingsError

PREFIX = "TOLLWATCH_"
TEST_PREFIX = "TOLLWATCH_TEST_"
SOLANA_MAINNET = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
SANDBOX_PROJECT = "sandbox"
SANDBOX_KEY = "tollwatch-dev"

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "y": 365 * 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d|y)")
_SIZES = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"(\d+)\s*([kMG]?)i?B?")


def parse_duration(text: str) -> timedelta:
    """'250ms', '30s', '5min', '2h', '7d', '5y' → timedelta. Raises ValueError that names the accepted forms."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("a duration such as 250ms, 30s, 5min, 2h, 7d or 5y")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def parse_size(text: str) -> int:
    """'1048576', '512k', '8M', '1G' → bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size in bytes such as 1048576, 512k, 8M or 1G")
    return int(match[1]) * _SIZES[match[2]]


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise ValueError("true or false")
    return text.lower() in ("1", "true", "yes")


def _parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text.strip()):
        raise ValueError("a whole number, zero or more")
    return int(text)


def _parse_positive(text: str) -> int:
    if _parse_count(text) == 0:
        raise ValueError("a whole number, one or more")
    return int(text)


def _parse_memory(text: str) -> int:
    if parse_size(text) < 1024**2:
        raise ValueError("a size of 1M or more")
    return parse_size(text)


def _parse_wait(text: str) -> timedelta:
    if not timedelta(milliseconds=100) <= parse_duration(text) <= timedelta(hours=1):
        raise ValueError("a duration from 100ms to 1h")
    return parse_duration(text)


def _parse_urls(text: str) -> tuple[str, ...]:
    urls = tuple(part.strip() for part in text.split(",") if part.strip())
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError("http:// or https:// URLs, separated by commas")
    return urls


def _parse_database_url(text: str) -> str:
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("postgresql://user:password@host:port/database")
    return text


def _parse_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError("a TCP port, 1 to 65535")
    return int(text)


def _parse_network(text: str) -> str:
    if not re.fullmatch(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}", text):
        raise ValueError(f"a CAIP-2 network such as {SOLANA_MAINNET}")
    return text


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(" or ".join(names))
        return text

    return parse


def _setting(variable: str, parse: Callable[[str], Any], doc: str, default: str | None) -> Any:
    """A field of Settings; `default` as an operator would write it, None where unset means something of its own."""
    value = None if default is None else parse(default)
    return field(
        default=value, metadata={"variable": PREFIX + variable, "parse": parse, "doc": doc, "default": default}
    )


def _duration(variable: str, default: str, doc: str) -> Any:
    return _setting(variable, parse_duration, doc, default)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that an operator can set; `Settings.from_env(os.environ)` makes it, tests make it directly."""

    database_url: str | None = _setting(
        "DATABASE_URL", _parse_database_url, "PostgreSQL to use; unset: the embedded one that `tollwatch up` runs", None
    )
    edition: str = _setting(
        "EDITION",
        _choice("auto", "plain"),
        "at the first migration: what the database offers, or plain on a server that also has TimescaleDB",
        "auto",
    )
    home: Path = _setting("HOME", Path, "folder of the embedded database and of `up`'s state", ".tollwatch")
    host: str = _setting("HOST", str, "address that the API listens on", "127.0.0.1")
    port: int = _setting("PORT", _parse_port, "port of the API", "8402")
    collector_port: int = _setting("COLLECTOR_PORT", _parse_port, "port of the collector's own /metrics", "8403")
    collector_host: str = _setting("COLLECTOR_HOST", str, "address of the collector's own /metrics", "127.0.0.1")
    sandbox: bool = _setting("SANDBOX", _parse_bool, "set by `up`: the sandbox runs, its key and project work", "false")
    rpc_urls: tuple[str, ...] = _setting(
        "RPC_URLS", _parse_urls, "Solana JSON-RPC endpoints, in order of preference, separated by commas", ""
    )
    network: str = _setting("NETWORK", _parse_network, "CAIP-2 id of the network behind RPC_URLS", SOLANA_MAINNET)
    log_level: str = _setting(
        "LOG_LEVEL", _choice("debug", "info", "warning", "error"), "least severity that is logged", "info"
    )
    log_format: str = _setting("LOG_FORMAT", _choice("text", "json"), "one log line: text, or one JSON object", "text")

    sample_interval: timedelta = _duration("SAMPLE_INTERVAL", "10s", "how often every wallet's balances are sampled")
    sample_concurrency: int = _setting(
        "SAMPLE_CONCURRENCY", _parse_count, "getMultipleAccounts calls under way at once, per run", "4"
    )
    max_wallets: int = _setting(
        "MAX_WALLETS", _parse_count, "wallets that are sampled; more are counted and left", "20000"
    )

    late_window: timedelta = _duration("LATE_WINDOW", "7d", "oldest event that ingest accepts")
    clock_skew: timedelta = _duration("CLOCK_SKEW", "5min", "how far ahead of us an event's time may be")
    spool_max_age: timedelta = _duration(
        "SPOOL_MAX_AGE", "1d", "longest that an accepted event may wait outside the database"
    )
    spool: Path | None = _setting(
        "SPOOL",
        Path,
        "folder, on a local disk, of what is accepted while the database is away; unset: `spool` in HOME",
        None,
    )
    spool_max: int = _setting("SPOOL_MAX", parse_size, "most bytes in that folder, of all processes together", "1G")
    spool_segment: int = _setting("SPOOL_SEGMENT", parse_size, "bytes of one file in it, allocated at once", "16M")
    rollup_interval: timedelta = _duration("ROLLUP_INTERVAL", "15s", "how often rollups are refreshed")
    rollup_window: timedelta = _duration("ROLLUP_WINDOW", "11d", "how far back a refresh looks (start_offset)")
    columnstore_after: timedelta = _duration(
        "COLUMNSTORE_AFTER", "14d", "age at which chunks become columnstore (community)"
    )
    retain_samples: timedelta = _duration("RETAIN_SAMPLES", "90d", "how long balance_samples are kept")
    retain_requests: timedelta = _duration("RETAIN_REQUESTS", "90d", "how long api_requests are kept")
    retain_queue: timedelta = _duration("RETAIN_QUEUE", "90d", "how long queue_events are kept")
    retain_payments: timedelta = _duration("RETAIN_PAYMENTS", "400d", "how long payments are kept")
    retain_audit: timedelta = _duration("RETAIN_AUDIT", "400d", "how long audit_events are kept")
    retain_rollups: timedelta = _duration("RETAIN_ROLLUPS", "5y", "how long rollups are kept")
    partitions_ahead: timedelta = _duration("PARTITIONS_AHEAD", "14d", "how far ahead partitions are made (plain)")

    pool_size: int = _setting("POOL_SIZE", _parse_count, "database connections of one process", "10")
    max_body: int = _setting("MAX_BODY", parse_size, "largest ingest body, as sent and as decompressed", "8M")
    max_batch: int = _setting("MAX_BATCH", _parse_count, "most events in one body", "10000")
    ingest_queue: int = _setting(
        "INGEST_QUEUE", _parse_count, "events that may wait for the database before clients are sent away", "20000"
    )
    body_memory: int = _setting(
        "BODY_MEMORY",
        _parse_memory,
        "request bodies in memory, of all requests together; one key has half at most",
        "64M",
    )
    unread_memory: int = _setting(
        "UNREAD_MEMORY", _parse_memory, "answers in memory that clients have yet to read, together", "64M"
    )
    max_connections: int = _setting("MAX_CONNECTIONS", _parse_positive, "clients' connections to one process", "1000")
    max_requests: int = _setting("MAX_REQUESTS", _parse_positive, "requests at work at once, of one process", "128")
    max_requests_per_key: int = _setting(
        "MAX_REQUESTS_PER_KEY", _parse_positive, "requests at work at once, of one key", "64"
    )
    client_idle: timedelta = _setting("CLIENT_IDLE", _parse_wait, "how long a connection may ask nothing", "15s")
    client_headers: timedelta = _setting(
        "CLIENT_HEADERS", _parse_wait, "how long a client may take over a request's headers", "10s"
    )
    client_body: timedelta = _setting(
        "CLIENT_BODY", _parse_wait, "how long a client may take to send a request's body", "30s"
    )
    client_read: timedelta = _setting(
        "CLIENT_READ", _parse_wait, "how long a client may take to read an answer", "1min"
    )
    key_events_per_s: int = _setting(
        "KEY_EVENTS_PER_S",
        _parse_count,
        "events a second of one key that has no limit of its own; 0: no limit",
        "20000",
    )
    key_bytes_per_s: int = _setting(
        "KEY_BYTES_PER_S", parse_size, "bytes a second of bodies, as sent, likewise; 0: no limit", "32M"
    )
    key_burst: timedelta = _setting(
        "KEY_BURST", _parse_wait, "how long a key that was quiet may save up its limits for", "10s"
    )
    key_guesses_per_s: int = _setting(
        "KEY_GUESSES_PER_S", _parse_count, "keys a second that do not exist, of one address; 0: no limit", "10"
    )
    max_unregistered: int = _setting(
        "MAX_UNREGISTERED",
        _parse_count,
        "wallets and assets per project that events may name without registration",
        "10000",
    )
    max_page: int = _setting("MAX_PAGE", _parse_count, "most items in one answer of a list", "1000")
    max_series: int = _setting(
        "MAX_SERIES", _parse_count, "most series that one metric family of /metrics may have", "20000"
    )
    metrics_interval: timedelta = _duration(
        "METRICS_INTERVAL",
        "10s",
        "how often /metrics reads facts while it is scraped; 0s: at each scrape",
    )

    @property
    def required_database_url(self) -> str:
        """`database_url`, where nothing works without one. Raises SettingsError: what to do."""
        if self.database_url is None:
            raise SettingsError("no database: set TOLLWATCH_DATABASE_URL, or run `tollwatch up` for the embedded one")
        return self.database_url

    @property
    def spool_folder(self) -> Path:
        """Where the spool is."""
        return self.home / "spool" if self.spool is None else self.spool

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read every `TOLLWATCH_…` variable. Raises SettingsError: the variable and the form that it must have."""
        known = {f.metadata["variable"]: f for f in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX) or text == "":
                continue
            if variable not in known:
                raise SettingsError(_unknown(variable, list(known)))
            try:
                values[known[variable].name] = known[variable].metadata["parse"](text)
            except ValueError as exc:
                raise SettingsError(f"{variable} must be {exc}") from exc
        return cls(**values)


def _unknown(variable: str, known: list[str]) -> str:
    near = difflib.get_close_matches(variable.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in known], 1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "see `tollwatch settings`"
    return f"{variable} is not a setting; {hint}"


def describe() -> list[tuple[str, str, str]]:
    """(variable, default as one would write it, doc) of every setting, in order."""
    shown = [item.metadata for item in fields(Settings)]
    return [(item["variable"], item["default"] or "", item["doc"]) for item in shown]
