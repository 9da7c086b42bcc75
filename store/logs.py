"""Logging of every process: one line per event on stderr, as text or as one JSON object, without secrets.

    SAMPLE_FAILED = "sample_failed"
    event(log, logging.WARNING, SAMPLE_FAILED, batch=3, error=exc)

    2026-11-20T12:00:00.123Z WARNING collector.sources.balances sample_failed batch=3 error="no endpoint answered"

Events are constants, data goes in fields. `redact` runs over every string that is written, tracebacks included.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from store.settings import Settings

MASK = "***"

_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "taskName"})
_FIELDS = "tollwatch_fields"
# httpx and httpcore tell of every request, URL and headers included; APScheduler of what our scheduler tells better.
QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "apscheduler": logging.ERROR,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "uvicorn": logging.WARNING,
}

_SENSITIVE = r"[\w.-]*(?:api[-_]?key|apikey|token|secret|passw(?:or)?d|auth|signature|credential)[\w.-]*"
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#@\"'\\]*(?:@[^\s/?#@\"'\\]+)*@", re.IGNORECASE)
_URL = re.compile(r"\bhttps?://[^\s\"'<>\\]+", re.IGNORECASE)
_QUERY_SECRET = re.compile(rf"([?&#]{_SENSITIVE}=)[^&#]*|([?&#]key=)[^&#]*", re.IGNORECASE)
# Node providers put keys in paths: /v2/<key>, /<key>/.
_PATH_SECRET = re.compile(r"(?<=/)[A-Za-z0-9_-]{20,}(?=[/?#]|$)")
_SCHEME_TOKEN = re.compile(r"\b(Bearer|Basic)\s+(?=\S*\d|\S{20})[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(authorization|x-api-key|api[-_]?key|apikey|access[-_]token|auth[-_]token|password|passwd|secret)"
    r"([\"']?\s*[=:]\s*[\"']?)(?:(?:Bearer|Basic)\s+)?[^\s\"'&,;\\]+",
    re.IGNORECASE,
)


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send events of at least `settings.log_level` to `stream` (stderr). Calling it again replaces the first."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))


def event(
    logger: logging.Logger, level: int, name: str, /, *, cause: BaseException | None = None, **fields: object
) -> None:
    """Log one event. `name` is a constant of the caller's module; `cause` adds its traceback."""
    logger.log(level, name, exc_info=cause, extra={_FIELDS: fields}, stacklevel=2)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The data of one event: what `event` was given, and what other libraries pass as `extra`."""
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and name != _FIELDS}
    return extra | getattr(record, _FIELDS, {})


def redact(text: str) -> str:
    """`text` without what looks like a secret: userinfo, keys in URLs, bearer tokens, `password=…`."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _URL.sub(_without_keys, text)
    text = _SCHEME_TOKEN.sub(rf"\1 {MASK}", text)
    return _NAMED.sub(rf"\1\2{MASK}", text)


def _without_keys(match: re.Match[str]) -> str:
    url = _QUERY_SECRET.sub(lambda found: f"{found[1] or found[2]}{MASK}", match[0])
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}" + (slash + _PATH_SECRET.sub(MASK, slash + path)[1:] if slash else "")


class TextFormatter(logging.Formatter):
    """`2026-11-21T10:00:00.123Z INFO collector.jobs job_ok job=rollups`; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One event, one line: what is in a field cannot begin another."""
        line = f"{_time(record)} {record.levelname} {record.name} {_one_line(redact(record.getMessage()))}"
        line += "".join(f" {name}={_text_value(value)}" for name, value in fields_of(record).items())
        return f"{line}\n{redact(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """The same as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One event: time, level, logger, event, the fields, and `exception` where there is one."""
        own = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        own["event"] = redact(record.getMessage())
        if record.exc_info:
            own["exception"] = redact(self.formatException(record.exc_info))
        fields = {name: _json_value(value) for name, value in fields_of(record).items() if name not in own}
        return json.dumps(own | fields)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text, ensure_ascii=False)[1:-1]


def _text_value(value: object) -> str:
    text = redact(_plain(value))
    bare = text.isprintable() and text and not any(mark in text for mark in ' "=')
    return text if bare else json.dumps(text, ensure_ascii=False)


def _json_value(value: object) -> object:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return redact(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)
