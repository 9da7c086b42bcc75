"""`/v1/keys`: the keys of the caller's project. Every change is an audit event that names its actor.

A key with the scope `admin` makes keys of its own project, with scopes that there are and limits up to the process's
defaults (the command line sets larger ones). One that expires makes no admin key that outlives it. A key's text is in
the answer that makes it and nowhere else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from api.dependencies import AppState, Caller, State, authorize
from api.problems import Problem, documented
from api.registry import Body, BoundedRoute, Text
from api.times import Moment, time_text
from store.errors import NotFound
from store.keys import GRACE, MAX_GRACE, KeyChanges, KeyInfo, NewKey, NotRotatable
from store.keys.changes import MAX_BYTES_RATE, MAX_RATE

router = APIRouter(tags=["keys"], route_class=BoundedRoute)
Admin = Annotated[Caller, Depends(authorize("admin"))]
Prefix = Annotated[
    str, Path(alias="prefix", max_length=100, description="What names a key: its first 11 characters, `tw_…`.")
]
Scope = Literal["ingest", "ingest:facilitator", "read", "metrics", "admin"]
_NO_STORE = {"Cache-Control": "no-store"}
_PROBLEMS = documented(401, 403, 422, 503)


class KeyBody(Body):
    """What the key is to be."""

    name: Annotated[Text, Field(min_length=1, max_length=100, examples=["checkout-agents"])]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10)]
    expires_at: Annotated[Moment | None, Field(description="Left out: never.")] = None
    events_per_s: Annotated[int | None, Field(ge=1, le=MAX_RATE, description="Left out: the default.")] = None
    bytes_per_s: Annotated[int | None, Field(ge=1, le=MAX_BYTES_RATE, description="Left out: the default.")] = None


class RotationBody(Body):
    """How long the old key works yet."""

    grace_s: Annotated[int, Field(ge=0, le=int(MAX_GRACE.total_seconds()))] = int(GRACE.total_seconds())


class KeyAnswer(BaseModel):
    """All that may be told of a key. `replaced_by`: the prefix of the key that it was rotated to."""

    prefix: str
    name: str
    scopes: list[str]
    created_at: str
    created_by: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None
    replaced_by: str | None
    events_per_s: int | None
    bytes_per_s: int | None


class NewKeyAnswer(KeyAnswer):
    """A key with its text, which is told this once."""

    key: str


class RotationAnswer(NewKeyAnswer):
    """The new key, and the old one that works until it expires."""

    replaces: KeyAnswer


class KeyList(BaseModel):
    """Keys, newest first. There are never more than one answer holds."""

    items: list[KeyAnswer]
    next: None = None


@router.get("/v1/keys", responses=_PROBLEMS)
async def list_keys(
    response: Response,
    held: State,
    caller: Admin,
    working: Annotated[bool | None, Query(description="True: only keys that work.")] = None,
) -> KeyList:
    """The project's keys, newest first; those that stopped working more than 90 days ago are left out."""
    response.headers.update(_NO_STORE)
    found = await _changes(held, caller).listed(caller.project_id)
    return KeyList(items=[_answer(info) for info in found if not working or info.works(held.clock())])


@router.get("/v1/keys/{prefix}", responses=_PROBLEMS | documented(404))
async def show_key(prefix: Prefix, response: Response, held: State, caller: Admin) -> KeyAnswer:
    """One key of the project."""
    response.headers.update(_NO_STORE)
    found = await _changes(held, caller).listed(caller.project_id, prefix)
    if not found:
        raise NotFound(f"there is no key {prefix[:11]!r} in this project")
    return _answer(found[0])


@router.post("/v1/keys", status_code=201, responses=_PROBLEMS | documented(400, 413))
async def create_key(body: KeyBody, response: Response, held: State, caller: Admin) -> NewKeyAnswer:
    """Make a key. Its text, `key`, is in this answer and nowhere else."""
    response.headers.update(_NO_STORE)
    asked = NewKey(**body.model_dump())
    _check_limits(held, asked)
    _check_outlives(caller, asked)
    info, key_text = await _changes(held, caller).create(caller.project_id, asked)
    response.headers["Location"] = f"/v1/keys/{info.prefix}"
    return NewKeyAnswer(**_members(info), key=key_text)


@router.post("/v1/keys/{prefix}/revoke", responses=_PROBLEMS | documented(404))
async def revoke_key(prefix: Prefix, response: Response, held: State, caller: Admin) -> KeyAnswer:
    """End a key: here at once, in other processes within 5 s, or within 5 min where they cannot reach the database.

    Again changes nothing.
    """
    response.headers.update(_NO_STORE)
    info = await _changes(held, caller).revoke(caller.project_id, prefix)
    held.keys.forget(prefix)
    return _answer(info)


@router.post("/v1/keys/{prefix}/rotate", status_code=201, responses=_PROBLEMS | documented(400, 404, 409, 413))
async def rotate_key(
    prefix: Prefix, response: Response, held: State, caller: Admin, body: RotationBody | None = None
) -> RotationAnswer:
    """Replace a key by one with the same name, scopes, limits and lifetime. The old one works for `grace_s` yet."""
    response.headers.update(_NO_STORE)
    grace = timedelta(seconds=(body or RotationBody()).grace_s)
    try:
        old, new, key_text = await _changes(held, caller).rotate(
            caller.project_id, prefix, grace, lambda made: _check_outlives(caller, made)
        )
    except NotRotatable as exc:
        raise Problem(409, "not_rotatable", str(exc)) from exc
    held.keys.forget(prefix)
    response.headers["Location"] = f"/v1/keys/{new.prefix}"
    return RotationAnswer(**_members(new), key=key_text, replaces=_answer(old))


def _changes(held: AppState, caller: Caller) -> KeyChanges:
    return KeyChanges(held.engine, f"key:{caller.key_prefix} {caller.key_name}".rstrip(), held.clock)


def _check_limits(held: AppState, asked: NewKey) -> None:
    for name in ("events_per_s", "bytes_per_s"):
        default, own = getattr(held.settings, f"key_{name}"), getattr(asked, name)
        if own is not None and 0 < default < own:
            detail = f"body.{name}: at most {default}, the default; `tollwatch keys create` sets larger ones"
            raise Problem(422, "limit_too_large", detail)


def _check_outlives(caller: Caller, made: NewKey | KeyInfo) -> None:
    outlives = made.expires_at is None or (caller.expires_at is not None and made.expires_at > caller.expires_at)
    if "admin" in set(made.scopes) and caller.expires_at is not None and outlives:
        ends = time_text(caller.expires_at)
        raise Problem(403, "outlives_caller", f"this key expires at {ends} and makes no admin key that lives longer")


def _members(info: KeyInfo) -> dict[str, Any]:
    times = ("created_at", "last_used_at", "expires_at", "revoked_at")
    members = {name: value for name, value in vars(info).items() if name != "project"}
    return members | {"scopes": list(info.scopes)} | {name: time_text(members[name]) for name in times}


def _answer(info: KeyInfo) -> KeyAnswer:
    return KeyAnswer(**_members(info))
