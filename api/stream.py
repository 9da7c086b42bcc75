"""`GET /v1/stream`: what happens now, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.dependencies import AppState, Credentials, authorize
from api.problems import Problem, documented
from api.reads.answers import Reads
from api.stream_facts import Reading, read
from api.stream_feeds import Feeds, Limits, Listener
from store.errors import DatabaseError

router = APIRouter(tags=["reads"], responses=documented(401, 403, 503))

HEARTBEAT = b": heartbeat\n\n"

Allowed = Callable[[], Awaitable[bool]]
_authorize_read = authorize("read")
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get(
    "/v1/stream",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
)
async def stream(
    who: Reads, credentials: Credentials, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> Response:
    """What happens now in the project, looked up every second: `hello` (present state: `balances` with their runway,
    `payments` and `audit` of the last minutes, `breakers`), then `balances`, `payments`, `audit` and `breakers`, each
    with the `items` that are new or changed. With `more` there were others; the lists have everything.

    With the header `Last-Event-ID` of an event not long ago, what was missed since comes in place of `hello`. Who does
    not keep up is disconnected.
    """
    feeds = feeds_of(who.request.app, who.state)
    project_id = who.caller.project_id

    async def allowed() -> bool:
        """Whether the key still works: a stream may outlive it."""
        with contextlib.suppress(Problem, DatabaseError):
            return (await _authorize_read(who.request, who.state, credentials)).project_id == project_id
        return False

    listener = await feeds.join(project_id, last_event_id)
    # Listeners have a bound of their own, and stay for hours.
    who.state.limits.end_turn(who.request.scope)
    return EventStream(listener, feeds.limits, allowed, lambda: feeds.leave(project_id, listener))


def feeds_of(app: FastAPI, held: AppState) -> Feeds:
    """The process's feeds, made for the first listener."""
    found: Feeds | None = getattr(app.state, "feeds", None)
    if found is None:
        found = make_feeds(held, Limits())
        app.state.feeds = found
    return found


def make_feeds(held: AppState, limits: Limits) -> Feeds:
    """Feeds of the state's database."""

    async def look(project_id: int, before: Reading) -> Reading:
        return await read(held, project_id, before)

    return Feeds(look, limits)


async def close(app: FastAPI) -> None:
    """End all streams: for a process that stops, before it waits for its connections."""
    found: Feeds | None = getattr(app.state, "feeds", None)
    if found is not None:
        await found.close()


class EventStream(StreamingResponse):
    """Events of a listener, until it ends, leaves, is too slow, or may listen no more."""

    media_type = "text/event-stream"

    def __init__(self, listener: Listener, limits: Limits, allowed: Allowed, leave: Callable[[], None]) -> None:
        super().__init__(_told(listener, limits.heartbeat, allowed), headers=_HEADERS)
        self._limits = limits
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, and make sure that the listener's place is free afterwards."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._limits.send):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        except TimeoutError:
            return
        finally:
            self._leave()


async def _told(listener: Listener, heartbeat: float, allowed: Allowed) -> AsyncIterator[bytes]:
    while True:
        try:
            encoded = await listener.next(heartbeat)
        except TimeoutError:
            encoded = HEARTBEAT
        if encoded is None or not await allowed():
            return
        yield encoded
