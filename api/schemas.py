"""`GET /v1/schemas` and `/v1/schemas/{type}`: the JSON Schema of every event type, from the structs that decode."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from fastapi import APIRouter, Response

from api.events import AMOUNT_FORMS, AMOUNTS, EVENT_TYPES
from api.examples import EVENTS
from api.problems import documented
from store.errors import NotFound

MEDIA_TYPE = "application/schema+json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

router = APIRouter(tags=["schemas"])


@cache
def event_schema(event_type: str) -> dict[str, Any]:
    """The JSON Schema of one event type, with an example. KeyError: no such type."""
    event = EVENT_TYPES[event_type]
    (_, found) = msgspec.json.schema_components([event])
    schema = found[event.__name__]
    members = schema["properties"]
    for name in AMOUNTS:
        if name in members:
            members[name]["anyOf"] = AMOUNT_FORMS if name in schema["required"] else [*AMOUNT_FORMS, {"type": "null"}]
    members["type"]["description"] = "What kind of event it is."
    for name, member in members.items():
        _describe(name, member)
    return {
        "$schema": DIALECT,
        "$id": f"/v1/schemas/{event_type}",
        **schema,
        "required": sorted({"type", *schema["required"]}),
        "examples": [EVENTS[event_type]],
    }


def _describe(name: str, member: dict[str, Any]) -> None:
    """Lift a description out of `X or null`, and see to it that every member has one."""
    for choice in member.get("anyOf", ()):
        if "description" in choice:
            member.setdefault("description", choice.pop("description"))
    if "description" not in member:
        raise LookupError(f"api.events: {name} has no description")


@router.get("/v1/schemas", summary="Event types and where their schemas are")
async def schemas() -> dict[str, list[dict[str, str]]]:
    """Every event type that `POST /v1/events` takes."""
    return {"items": [{"type": name, "schema": f"/v1/schemas/{name}"} for name in EVENT_TYPES]}


@router.get("/v1/schemas/{event_type}", response_class=Response, responses=documented(404))
async def schema(event_type: str) -> Response:
    """The JSON Schema of one event type."""
    if event_type not in EVENT_TYPES:
        raise NotFound(f"there is no such event type; there are {', '.join(EVENT_TYPES)}")
    return Response(msgspec.json.encode(event_schema(event_type)), media_type=MEDIA_TYPE)
