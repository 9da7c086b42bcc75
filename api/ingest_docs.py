"""What /openapi.json says about `POST /v1/events`: bodies, answers and problems, with examples."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field

from api.body import JSON, NDJSON
from api.examples import EVENTS
from api.problems import documented
from api.rejections import Code
from api.schemas import event_schema


class RejectionDocument(BaseModel):
    """Why one event was not stored."""

    index: int = Field(description="Position in the batch, from 0; empty lines of NDJSON do not count.")
    id: str | None = Field(description="The event's id as sent, where it could be read.")
    code: Code
    message: str = Field(description="Which member, what is wrong, what would do.")


class AnswerDocument(BaseModel):
    """What became of every event of a batch."""

    accepted: int = Field(description="Newly stored.")
    duplicates: int | None = Field(description="There already, or twice in the batch; null when spooled.")
    rejected: list[RejectionDocument]
    spooled: bool = Field(description="True: kept on disk, and in the database soon.")


_ANSWER = {
    "accepted": 2,
    "duplicates": 1,
    "rejected": [
        {
            "index": 3,
            "id": "01a1f8d3-ebf4-732f-8b12-24083fd22f89",
            "code": "invalid_amount",
            "message": "amount must be an integer of atomic units, 0 to 9223372036854775807, or a string of "
            "its digits, not '0.01'",
        }
    ],
    "spooled": False,
}
_EVENT = {"anyOf": [event_schema(name) for name in EVENTS]}
_LINES = "\n".join(json.dumps(event) for event in EVENTS.values())
_CONTENT = {JSON: {"schema": {"type": "array", "items": _EVENT}, "example": list(EVENTS.values())}} | {
    media_type: {"schema": {"type": "string"}, "example": _LINES} for media_type in NDJSON[:1]
}
_CODES = "\n".join(f"- `{code.value}`" for code in Code)

ROUTE: dict[str, Any] = {
    "response_model": AnswerDocument,
    "responses": {200: {"content": {JSON: {"example": _ANSWER}}}, **documented(400, 401, 403, 408, 413, 415, 422, 503)},
    "response_description": f"Every event is accounted for. Codes of rejections:\n\n{_CODES}",
    "openapi_extra": {"requestBody": {"required": True, "content": _CONTENT}},
}
"""Keyword arguments of the route's decorator."""
