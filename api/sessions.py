"""`PUT /v1/agents/{name}/sessions/{id}`: register a wallet session, idempotently."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field

from api.dependencies import Caller, State, authorize
from api.problems import Problem, documented
from api.registry import AgentName, Body, BoundedRoute, Network, Text
from api.times import Moment, time_text
from store.redact import redact_text
from store.sessions import SessionEntry, SessionTaken, TokenTaken, put_session

MAX_COUNT = 2**31 - 1

router = APIRouter(tags=["registration"], route_class=BoundedRoute)
Registrar = Annotated[Caller, Depends(authorize("ingest"))]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Scope(Body):
    """What a session allows; null: no limit."""

    permissions: list[Annotated[Text, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=20, examples=[["pay"]]
    )
    tx_limit: Annotated[Count | None, Field(description="Payments.")] = None
    duration_s: Annotated[Count | None, Field(description="Seconds.")] = None


class SessionBody(Body):
    """The session as it is now; whatever is left out gets its default."""

    wallet: Annotated[Text, Field(min_length=1, max_length=100, description="Base58 address of a registered wallet.")]
    network: Annotated[Network | None, Field(description="CAIP-2; default: the agent's.")] = None
    token_hash: Annotated[
        str,
        Field(pattern=r"^[0-9a-fA-F]{64}$", description="SHA-256 of the session's token; unique in the project."),
    ]
    scope: Scope = Scope()
    tx_used: Annotated[Count, Field(description="Payments made so far.")] = 0
    status: Literal["active", "expired", "revoked"]
    delegated_at: Moment | None = None
    expires_at: Moment | None = None
    revoked_at: Moment | None = None


class SessionAnswer(BaseModel):
    """The session as it is registered now; its token_hash is not told again."""

    agent: str
    id: UUID
    wallet: str
    network: str
    scope: Scope
    tx_used: int
    status: str
    delegated_at: str | None
    expires_at: str | None
    revoked_at: str | None


@router.put(
    "/v1/agents/{name}/sessions/{id}",
    responses={
        201: {"model": SessionAnswer, "description": "Registered"},
        **documented(400, 401, 403, 404, 409, 413, 422, 503),
    },
)
async def register_session(
    name: AgentName,
    session_id: Annotated[UUID, Path(alias="id", description="What events say as `session`.")],
    body: SessionBody,
    response: Response,
    held: State,
    caller: Registrar,
) -> SessionAnswer:
    """Register a wallet session, or make it what the body says. Sending the same again changes nothing."""
    try:
        created, kept = await put_session(
            held.engine, held.directory, caller.project_id, _entry(name, session_id, body)
        )
    except SessionTaken as exc:
        raise Problem(409, "session_taken", str(exc)) from exc
    except TokenTaken as exc:
        raise Problem(409, "token_taken", str(exc)) from exc
    if created:
        response.status_code = 201
    times = {name: time_text(getattr(kept, name)) for name in ("delegated_at", "expires_at", "revoked_at")}
    return SessionAnswer.model_validate(vars(kept) | times)


def _entry(agent: str, session_id: UUID, body: SessionBody) -> SessionEntry:
    scope = body.scope.model_dump()
    scope["permissions"] = [redact_text(permission) for permission in body.scope.permissions]
    members = {name: getattr(body, name) for name in type(body).model_fields}
    return SessionEntry(
        **members | {"agent": agent, "id": session_id, "token_hash": bytes.fromhex(body.token_hash), "scope": scope}
    )
