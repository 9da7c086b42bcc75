"""Wallet sessions: what an agent may spend from a wallet, as it says itself. Put idempotently; no token is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import errors as pg
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.addresses import address_to_bytes
from store.directory import Agent, Directory
from store.engine import writing
from store.errors import InvalidValue, NotFound
from store.named_sql import query

MAX_SESSIONS = 1_000_000
"""Sessions of one project, past ones included."""

_TOKEN_KEY = "wallet_sessions_project_id_token_hash_key"  # noqa: S105 (a constraint's name)


class SessionTaken(InvalidValue):
    """The session is another agent's."""


class TokenTaken(InvalidValue):
    """Another session of the project has this token_hash; a token opens one session."""


@dataclass(frozen=True, kw_only=True)
class SessionEntry:
    """All that is registered about a session, without secrets. network None: the agent's."""

    agent: str
    id: UUID
    wallet: str
    network: str | None
    token_hash: bytes
    scope: Mapping[str, object]
    tx_used: int
    status: str
    delegated_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


async def put_session(
    engine: AsyncEngine, directory: Directory, project_id: int, entry: SessionEntry
) -> tuple[bool, SessionEntry]:
    """Make a session, or make it what `entry` says. Returns whether it is new, and what is registered now.

    Raises NotFound (the agent, the wallet), SessionTaken, TokenTaken, InvalidValue (address, no room), DatabaseError.
    """
    agent = (await directory.agents(project_id, [entry.agent])).get(entry.agent)
    if agent is None:
        raise NotFound(f"no agent {entry.agent!r} is registered; PUT /v1/agents/{entry.agent} first")
    kept = replace(entry, network=entry.network or agent.network)
    try:
        return await _put_once(engine, project_id, agent, kept), kept
    except TokenTaken:
        # Perhaps by this very session, which another request was making at that moment: now it is there to be seen.
        return await _put_once(engine, project_id, agent, kept), kept


async def _put_once(engine: AsyncEngine, project_id: int, agent: Agent, kept: SessionEntry) -> bool:
    async with writing(engine) as connection:
        wallet_id = await _wallet(connection, project_id, kept)
        created = await _put(connection, _values(project_id, agent, wallet_id, kept))
        if created is None:
            await _check_owner(connection, project_id, agent, kept)
    return bool(created)


async def _wallet(connection: AsyncConnection, project_id: int, entry: SessionEntry) -> int:
    network = entry.network or ""
    values = {"project_id": project_id, "network": network, "address": address_to_bytes(network, entry.wallet)}
    wallet_id = (await connection.execute(text(query("registered_wallet")), values)).scalar_one_or_none()
    if wallet_id is None:
        raise NotFound(
            f"no wallet {entry.wallet} is registered on {network};"
            f" PUT /v1/agents/{entry.agent}/wallets/{entry.wallet} first"
        )
    return int(wallet_id)


def _values(project_id: int, agent: Agent, wallet_id: int, entry: SessionEntry) -> dict[str, Any]:
    return {
        **vars(entry),
        "project_id": project_id,
        "agent_id": agent.id,
        "wallet_id": wallet_id,
        "scope": json.dumps(entry.scope),
        "max_sessions": MAX_SESSIONS,
    }


async def _put(connection: AsyncConnection, values: Mapping[str, Any]) -> bool | None:
    """Whether it is new; None: nothing was written."""
    try:
        created = (await connection.execute(text(query("put_session")), values)).scalar_one_or_none()
    except IntegrityError as exc:
        if isinstance(exc.orig, pg.UniqueViolation) and exc.orig.diag.constraint_name == _TOKEN_KEY:
            raise TokenTaken from exc
        raise
    return None if created is None else bool(created)


async def _check_owner(connection: AsyncConnection, project_id: int, agent: Agent, entry: SessionEntry) -> None:
    """Why nothing was written: another agent's, no room, or it is just so already. A statement of its own sees what
    others committed meanwhile."""
    values = {"project_id": project_id, "id": entry.id}
    owner = (await connection.execute(text(query("session_owner")), values)).one_or_none()
    if owner is None:
        raise InvalidValue(f"the project has {MAX_SESSIONS} sessions already; use another project")
    if owner.id != agent.id:
        raise SessionTaken(f"the session {entry.id} is one of the agent {owner.name!r}; make a new id")
