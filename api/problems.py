"""Problems: every answer that is not a success, as RFC 9457 tells it (`application/problem+json`)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from store.errors import (
    DatabaseConflict,
    DatabaseFull,
    DatabaseTimeout,
    DatabaseUnavailable,
    InvalidValue,
    NotFound,
    SpoolRefused,
    TollwatchError,
)
from store.logs import event

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
SPOOL_RETRY_AFTER_S = 10
UNHANDLED = "unhandled_error"
DATABASE_AWAY = "database_away"
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
SPOOL_REFUSED = "spool_refused"
MAX_ERRORS = 20
"""Most single faults that one problem lists."""

_log = logging.getLogger(__name__)


class Problem(TollwatchError):
    """The request cannot be answered as asked."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


class ProblemDocument(BaseModel):
    """What a problem looks like on the wire; for the documentation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unauthorized",
                    "status": 401,
                    "detail": "this key was revoked; use another one",
                    "code": "invalid_key",
                }
            ]
        }
    )
    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, str]] | None = None
    id: str | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: these statuses are problems. Whatever needs a key can also be limited (429, 503)."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    told: dict[int | str, dict[str, Any]] = {}
    for status in {*statuses, *((429, 503) if 401 in statuses else ())}:
        told[status] = {"description": HTTPStatus(status).phrase, "content": content}
        if status in (429, 503):
            told[status]["headers"] = _RETRY_AFTER
    return told


def respond(problem: Problem, **more: object) -> JSONResponse:
    """The answer that tells of a problem."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        **more,
    }
    return JSONResponse(body, problem.status, problem.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn every error that a route can raise into a problem."""
    app.add_exception_handler(TollwatchError, _on_ours)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_middleware(Unhandled)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        document["components"]["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _on_ours(request: Request, exc: Exception) -> JSONResponse:
    if isinstance(exc, Problem):
        return respond(exc)
    if isinstance(exc, DatabaseUnavailable | DatabaseTimeout | DatabaseConflict):
        event(_log, logging.WARNING, DATABASE_AWAY, error=exc)
        return respond(_away(exc, is_read=request.method in ("GET", "HEAD")))
    if isinstance(exc, SpoolRefused):
        event(_log, logging.ERROR, SPOOL_REFUSED, reason=exc.reason, error=exc)
        return respond(Problem(503, f"spool_{exc.reason}", str(exc), {"Retry-After": str(SPOOL_RETRY_AFTER_S)}))
    if isinstance(exc, NotFound):
        return respond(Problem(404, "not_found", str(exc)))
    if isinstance(exc, InvalidValue):
        return respond(Problem(422, "invalid_value", str(exc)))
    return _unhandled(exc)


def _away(exc: Exception, *, is_read: bool) -> Problem:
    """Nothing was stored; what to do depends on what the database said, and on whether less could be asked of it."""
    code, detail = "database_unavailable", "the database does not answer in time; nothing was stored, try again"
    if isinstance(exc, DatabaseFull):
        code = "database_full"
        detail = "the disk of the database's server is full; nothing was stored, free space on it and try again"
    elif isinstance(exc, DatabaseTimeout) and is_read:
        code = "database_timeout"
        detail = "the database does not answer in time; ask for less (a shorter range, one agent) or try again"
    return Problem(503, code, detail, {"Retry-After": str(RETRY_AFTER_S)})


def _on_http(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)
    code = HTTPStatus(exc.status_code).phrase.lower().replace(" ", "_")
    return respond(Problem(exc.status_code, code, str(exc.detail), exc.headers))


def _on_invalid(_request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    errors = [
        {"where": ".".join(map(str, error["loc"]))[:100], "message": str(error["msg"])[:300]}
        for error in exc.errors()[:MAX_ERRORS]
    ]
    detail = "; ".join(f"{error['where']}: {error['message']}" for error in errors[:3])
    return respond(Problem(422, "invalid_request", detail), errors=errors)


def _unhandled(exc: BaseException) -> JSONResponse:
    error_id = secrets.token_hex(8)
    event(_log, logging.ERROR, UNHANDLED, cause=exc, error_id=error_id)
    return respond(
        Problem(500, "internal_error", "something went wrong here; the log has it under this id"), id=error_id
    )


class Unhandled:
    """The outermost layer: an unexpected error becomes a problem with an id, and a log line with its traceback.

    Starlette's own layer would answer in plain text and raise the error again, for the server to log a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and answer for what comes back."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception as exc:
            if scope["type"] != "http" or started:
                raise
            await _unhandled(exc)(scope, receive, send)
