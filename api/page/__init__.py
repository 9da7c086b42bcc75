"""The page at `/`: agents, balances, runway, breakers, retries, payments and audit events, for a person who looks.

The page is static files and speaks only to this API, with a key as everyone does: nothing of a project is in them. They
are found by name among those that the package holds, so no name of a request ever becomes a path.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from api.dependencies import State, from_loopback
from api.page.files import File, index_of, static_files
from api.problems import Problem
from store.settings import SANDBOX_KEY

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline, nothing from elsewhere, in nobody's frame."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for each time and answered 304: a new version shows at once, and all files are of one version.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)
_GET = ["GET", "HEAD"]
IfNoneMatch = Annotated[str, Header()]


@router.api_route("/", methods=_GET)
async def index(request: Request, held: State, if_none_match: IfNoneMatch = "") -> Response:
    """The page. In the sandbox it says so, and brings the sandbox's key where that key works."""
    key = SANDBOX_KEY if held.settings.sandbox and from_loopback(request) else ""
    return _answer(index_of(sandbox=held.settings.sandbox, key=key), if_none_match)


@router.api_route("/page/{name}", methods=_GET)
async def static_file(name: str, if_none_match: IfNoneMatch = "") -> Response:
    """What the page consists of. Problem: 404."""
    file = static_files().get(name)
    if file is None:
        raise Problem(404, "not_found", "the page has no such file")
    return _answer(file, if_none_match)


def _answer(file: File, if_none_match: str) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    held = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    if file.etag in held or held == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
