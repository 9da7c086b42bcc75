"""The page's files, read from the package once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from string import Template

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served beside index.html, by suffix: the package's Python is not."""

_SANDBOX_BANNER = (
    '<p class="sandbox"><strong>Sandbox</strong> A made-up world on this machine: no real chain, no real money.</p>'
)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it is answered; the ETag is of its content."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Strong, quoted."""
        return f'"{hashlib.blake2b(self.content, digest_size=16).hexdigest()}"'


@cache
def static_files() -> Mapping[str, File]:
    """Every static file by its name."""
    return {
        entry.name: File(content=entry.read_bytes(), media_type=MEDIA_TYPES[suffix])
        for entry in files(__package__).iterdir()
        if (suffix := PurePath(entry.name).suffix) in MEDIA_TYPES
    }


@cache
def index_of(*, sandbox: bool, key: str) -> File:
    """The page itself. `key`, which everyone may know, is what it reads with unasked; empty: it asks for one."""
    template = Template((files(__package__) / "index.html").read_text(encoding="utf-8"))
    filled = template.substitute(
        title="Tollwatch (sandbox)" if sandbox else "Tollwatch",
        world="sandbox" if sandbox else "production",
        key=key,
        banner=_SANDBOX_BANNER if sandbox else "",
    )
    return File(content=filled.encode(), media_type="text/html; charset=utf-8")
