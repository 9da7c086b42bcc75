"""Answering a list: question → position and range → page → bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from api.dependencies import AppState, Caller, State, authorize
from api.reads import cursors
from api.reads.cursors import Cursor
from api.reads.fields import write
from api.reads.questions import Question, RangeQuestion
from api.reads.ranges import DEFAULT_RANGE, RAW_RANGE, check_width, window_of
from store.addresses import signature_to_bytes
from store.engine import reading
from store.errors import InvalidValue
from store.readers import names
from store.readers.listings import Asked, Listing, Page, read_page
from store.readers.positions import Window
from store.readers.values import Row

_NOT_FILTERS = ("limit", "cursor", "from_", "to", "group_by", "bucket", "history")
_NAMED: dict[str, tuple[str, Callable[[AsyncConnection, int, str], Awaitable[object]]]] = {
    "agent": ("agent_id", names.agent_id),
    "asset": ("asset_ids", names.asset_ids),
    "wallet": ("wallet_ids", names.wallet_ids),
}
"""Filters by name: the statement's parameter, and who resolves the name."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who asks, and the state of the process that answers."""

    state: AppState
    caller: Caller
    request: Request


async def asker(request: Request, held: State, caller: Annotated[Caller, Depends(authorize("read"))]) -> Asker:
    """The dependency of every read. Problems: 401, 403, 503."""
    return Asker(state=held, caller=caller, request=request)


Reads = Annotated[Asker, Depends(asker)]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A list as a route has it: what is read and how, how an item is written, its ranges, fields left out.

    `is_one_snapshot`: several statements make a page, and nothing may change in between.
    """

    listing: Listing[Any]
    item: type[BaseModel]
    read: Callable[[AsyncConnection, Listing[Any], Asked], Awaitable[Page[Any]]] = read_page
    widest: timedelta = RAW_RANGE
    default: timedelta = DEFAULT_RANGE
    without: frozenset[str] = frozenset()
    is_one_snapshot: bool = False


def start_of(who: Asker, listed: Listed, question: Question) -> Cursor:
    """Where the page starts: at its cursor, else in front of the range asked for. Raises InvalidValue."""
    settings = who.state.settings
    if question.limit > settings.max_page:
        raise InvalidValue(f"limit must be at most {settings.max_page}")
    if question.cursor is not None:
        start = cursors.decode(question.cursor, listed.listing.position, _binding(who, listed, question))
    else:
        window = _window(who, listed, question) if isinstance(question, RangeQuestion) else None
        start = Cursor(window=window, position=listed.listing.position.first(window))
    if (start.window is None) == listed.listing.is_of_time:
        raise InvalidValue("this cursor belongs to another list")
    if start.window is not None:
        check_width(start.window, listed.widest, settings.clock_skew)
    return start


def _window(who: Asker, listed: Listed, question: RangeQuestion) -> Window | None:
    if not listed.listing.is_of_time:
        return None
    skew = who.state.settings.clock_skew
    return window_of(question.from_, question.to, now=who.state.clock(), skew=skew, default=listed.default)


def _binding(who: Asker, listed: Listed, question: Question) -> bytes:
    asked = question.model_dump(mode="json", exclude={"limit", "cursor"})
    return msgspec.json.encode((who.caller.project_id, listed.listing.query, asked))


async def page_of(
    connection: AsyncConnection, who: Asker, listed: Listed, question: Question, start: Cursor
) -> Page[Row]:
    """Read the page that starts there. Raises NotFound and InvalidValue (names), DatabaseError."""
    project_id = who.caller.project_id
    asked = Asked(
        project_id=project_id,
        window=start.window,
        position=start.position,
        limit=question.limit,
        filters=await _filters(connection, project_id, question),
    )
    return await listed.read(connection, listed.listing, asked)


async def _filters(connection: AsyncConnection, project_id: int, question: Question) -> Mapping[str, Any]:
    filters: dict[str, Any] = {}
    for name, value in question:
        if name in _NOT_FILTERS or value is None:
            continue
        if name in _NAMED:
            parameter, resolve = _NAMED[name]
            filters[parameter] = await resolve(connection, project_id, value)
        else:
            filters[name] = signature_to_bytes("solana:", value) if name == "signature" else value
    for dimension in filter(None, (getattr(question, "group_by", None) or "").split(",")):
        if dimension != "asset":
            filters[f"by_{dimension}"] = True
    return filters


def items_of(who: Asker, listed: Listed, question: Question, start: Cursor, page: Page[Row]) -> dict[str, Any]:
    """`items` and `next` of the answer."""
    following = None
    if page.next is not None:
        end = Cursor(window=start.window, position=page.next)
        following = cursors.encode(end, _binding(who, listed, question))
    return {"items": [write(listed.item, row, listed.without) for row in page.rows], "next": following}


async def answer(who: Asker, listed: Listed, question: Question) -> Response:
    """One page of a list. Problems: 404, 422, 503."""
    start = start_of(who, listed, question)
    async with reading(who.state.engine) as connection:
        if listed.is_one_snapshot:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        page = await page_of(connection, who, listed, question, start)
    return as_json(items_of(who, listed, question, start, page))


def as_json(body: object, headers: Mapping[str, str] | None = None) -> Response:
    """A body, as msgspec encodes it."""
    return Response(msgspec.json.encode(body), media_type="application/json", headers=dict(headers or {}))


def tagged(request: Request, body: object) -> Response:
    """The answer with a strong ETag over question and content; 304 where the client has it already."""
    content = msgspec.json.encode(body)
    digest = hashlib.blake2b(content, key=hashlib.blake2b(str(request.url).encode()).digest(), digest_size=16)
    headers = {"ETag": f'"{digest.hexdigest()}"', "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in held or held == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)
