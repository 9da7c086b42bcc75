from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime

import pytest

from store.logs import configure, event, redact
from store.settings import Settings

SECRETS = [
    ("https://rpc.example/?api-key=abc-123", "abc-123"),
    ("https://rpc.example/v1?x=1&apikey=abc123&y=2", "abc123"),
    ("https://rpc.example/x?access_token=abc123", "abc123"),
    ("https://rpc.example/?key=abc123", "abc123"),
    ("https://a.quiknode.pro/0123456789abcdef0123456789/", "0123456789abcdef0123456789"),
    ("https://g.alchemy.com/v2/AbCd_-0123456789abcdefgh", "AbCd_-0123456789abcdefgh"),
    ("http://user:hunter2@rpc.example:8899/x", "hunter2"),
    ("http://user:hun@ter2@rpc.example:8899/x", "ter2"),
    ("postgresql://tollwatch:hunter2@db:5432/x", "hunter2"),
    ("Authorization: Bearer tw_abcdef12", "tw_abcdef12"),
    ("Authorization: Basic dXNlcjpw", "dXNlcjpw"),
    ("{'authorization': 'Bearer abc12345'}", "abc12345"),
    ("sent Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc", "eyJhbGciOiJIUzI1NiJ9"),
    ("X-API-Key: abc123", "abc123"),
    ("password=hunter2 user=x", "hunter2"),
]
PLAIN = [
    "https://rpc.example:8899/v1/balances?from=1&limit=2",
    "127.0.0.1:8899: HTTP 429",
    "the bearer of bad news",
    "mail to ops@example.org",
    "keep key=value",
]


@pytest.fixture
def written(root_logging):
    """What is logged, as configured by the test."""
    stream = io.StringIO()

    def begin(**settings):
        configure(Settings(**settings), stream)
        return stream

    return begin


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_are_masked(text, secret):
    assert secret not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize("text", PLAIN)
def test_the_rest_is_left(text):
    assert redact(text) == text


def test_redaction_is_done_once():
    for text, _ in SECRETS:
        assert redact(redact(text)) == redact(text)


def test_a_text_line(written):
    stream = written()
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    event(logging.getLogger("collector.x"), logging.INFO, "sample_failed", batch=3, tick=at, error=ValueError("a b"))
    pattern = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO collector\.x sample_failed batch=3 tick=2026-11-20T12:00:00Z "
    )
    assert re.fullmatch(pattern + r'error="ValueError: a b"\n', stream.getvalue())


def test_a_field_cannot_begin_another_line(written):
    stream = written()
    event(logging.getLogger("x"), logging.INFO, "odd", said="one\n2026 ERROR two", empty="", name="n", args=(1,))
    logging.getLogger("y").info("first\nsecond")
    assert len(stream.getvalue().splitlines()) == 2
    assert 'empty="" name=n' in stream.getvalue()


def test_a_json_line(written):
    stream = written(log_format="json")
    fields = {"n": 1, "nan": float("nan"), "urls": ["http://u:p@h/"], "more": {"ok": True, "none": None}, "time": "x"}
    event(logging.getLogger("x"), logging.WARNING, "odd", **fields)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "x",
        "event": "odd",
        "n": 1,
        "nan": "nan",
        "urls": ["http://***@h/"],
        "more": {"ok": True, "none": None},
    }


def raised(error):
    """The error with a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize("form", ["text", "json"])
def test_tracebacks_and_extra_are_written_and_redacted(written, form):
    stream = written(log_format=form)
    event(logging.getLogger("x"), logging.ERROR, "failed", cause=raised(RuntimeError("at https://h/?api-key=abc123")))
    logging.getLogger("y").warning("of %s", "http://u:abc123@h/", extra={"why": "Bearer abc12345"})
    text = stream.getvalue()
    assert "RuntimeError" in text
    assert "Traceback" in text
    assert "why" in text
    assert "abc123" not in text


def test_levels(written):
    stream = written(log_level="debug")
    logging.getLogger("x").debug("seen")
    logging.getLogger("httpx").info("HTTP Request: POST https://h/v2/key")
    logging.getLogger("httpcore.connection").debug("unseen")
    assert stream.getvalue().count("\n") == 1
    stream = written(log_level="error")
    logging.getLogger("httpx").warning("unseen")
    assert stream.getvalue().count("\n") == 1


def test_configuring_again_replaces(written):
    written()
    stream = written()
    logging.getLogger("x").info("once")
    assert stream.getvalue().count("once") == 1
