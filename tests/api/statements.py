"""Statements per request: a request that sends one again and again is a loop over rows that one statement could have read.

`watching` sees what every connection of this process sends, whoever made it (SQLAlchemy, psycopg, COPY), and keeps it by
the request under way. tests/api/conftest.py watches every test of the API.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections import Counter
from dataclasses import dataclass, field

import httpx
import psycopg

from store.horizons import ROLLUPS

MOST_REPEATS = 6
"""Sendings of one statement by one request. Hours are read back in parts that grow, which makes five of the longest range;
a batch that lacks partitions or collides is written again."""
MOST_OF = {"/metrics": len(ROLLUPS)}
"""Paths that may send one more often: the exporter asks once per rollup, whose number is ours and not the data's."""
ENDLESS = ("/v1/stream",)
"""Requests that poll for as long as somebody listens."""

_request = contextvars.ContextVar("request", default=None)


@dataclass
class Sent:
    """What one request sent."""

    method: str
    path: str
    statements: Counter = field(default_factory=Counter)
    shared: Counter = field(default_factory=Counter)
    """Sent since it began by what is nobody's: transactions that small requests share, drains."""

    def repeated(self):
        """What was sent too often, as a sentence each."""
        if self.path.startswith(ENDLESS):
            return []
        most = MOST_OF.get(self.path, MOST_REPEATS)
        often = [(text, times) for text, times in self.statements.items() if times > most]
        return [
            f"{self.method} {self.path} sends {times} times: {' '.join(text.split())[:160]}" for text, times in often
        ]


@contextlib.contextmanager
def watching(monkeypatch):
    """Inside the block, the list of requests and what each sent. Their statements stay as they are."""
    requests = []

    def note(statement):
        shown = statement if isinstance(statement, str) else str(statement)
        if (current := _request.get()) is not None:
            current.statements[shown] += 1
        elif requests:
            requests[-1].shared[shown] += 1

    def noting(name):
        wrapped = getattr(psycopg.AsyncCursor, name)

        def call(self, statement, *args, **kwargs):
            note(statement)
            return wrapped(self, statement, *args, **kwargs)

        return call

    handle = httpx.ASGITransport.handle_async_request

    async def begin(self, request):
        sent = Sent(method=request.method, path=request.url.path)
        requests.append(sent)
        token = _request.set(sent)
        try:
            return await handle(self, request)
        finally:
            _request.reset(token)

    with monkeypatch.context() as patched:
        for name in ("execute", "executemany", "copy"):
            patched.setattr(psycopg.AsyncCursor, name, noting(name))
        patched.setattr(httpx.ASGITransport, "handle_async_request", begin)
        yield requests


def check(requests):
    """Fails when one of them repeats a statement."""
    found = [sentence for sent in requests for sentence in sent.repeated()]
    assert not found, "\n".join(found)
