"""Decoded events of one batch → drafts: facts whose wallets and mints are still to be looked up (store.drafts).

Agents and symbols are looked up here, because an event that names an unknown one is refused; the directory remembers
them, so that this works for a while without the database. This is the hottest Python of Tollwatch: facts are made from
their values in order, and nothing is built on the way there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from api.decode import BREATH, Decoded, Window, event_time, read_amount, read_json, read_time
from api.dependencies import Caller
from api.events import AnyEvent, ApiRequest, Audit, Balance, Event, Payment, Queue
from api.keeper import no_id
from api.rejections import Code, Rejected, shown
from store import facts
from store.addresses import address_to_bytes, signature_to_bytes
from store.directory import Address, Agent, AssetName, Directory, mint_of
from store.drafts import OPEN, Drafts
from store.errors import InvalidValue
from store.redact import redact_name, redact_optional, redact_text

_SCOPES = {"agent": "ingest", "facilitator": "ingest:facilitator"}
_NOBODY = Agent(id=0, network="", max_retries=0)
"""Whom an audit event is about that names no agent."""

Made: TypeAlias = tuple[Any, Address | None, AssetName | None]
"""A fact, and the wallet and the asset that it names."""


async def make_drafts(batch: Decoded, window: Window, caller: Caller, directory: Directory) -> Drafts:
    """The drafts of a batch. Events that cannot become one have their reason in `refused`. Raises DatabaseError."""
    names = {event.agent for event in batch.events if event is not None and event.agent is not None}
    agents = await directory.agents(caller.project_id, names)
    drafter = _Drafter(caller=caller, agents=agents, window=window, drafts=Drafts(project_id=caller.project_id))
    for index, event in enumerate(batch.events):
        if index % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        if event is None:
            continue
        try:
            drafter.add(index, event)
        except Rejected as exc:
            batch.refused[index] = exc.alone()
    return await _with_known_symbols(drafter.drafts, batch, directory)


async def _with_known_symbols(drafts: Drafts, batch: Decoded, directory: Directory) -> Drafts:
    named = {name for _, rows in drafts.by_relation() for name in set(rows.assets) if name is not None}
    symbols = {name for name in named if mint_of(name) is None}
    unknown = symbols - (await directory.assets(drafts.project_id, symbols)).keys()
    return drafts if not unknown else _without(drafts, batch, unknown)


def _without(drafts: Drafts, batch: Decoded, unknown: set[AssetName]) -> Drafts:
    kept = Drafts(project_id=drafts.project_id)
    for relation, rows in drafts.by_relation():
        for fact, wallet, asset, index in zip(rows.facts, rows.wallets, rows.assets, rows.indexes, strict=True):
            if asset in unknown:
                batch.refused[index] = no_id(asset)
            else:
                getattr(kept, relation).add(fact, wallet, asset, index)
    return kept


@dataclass(frozen=True, kw_only=True)
class _Drafter:
    """What the events of one batch have in common."""

    caller: Caller
    agents: Mapping[str, Agent]
    window: Window
    drafts: Drafts

    def add(self, index: int, event: AnyEvent) -> None:
        """Put one event among the drafts. Raises Rejected."""
        if _SCOPES[event.origin] not in self.caller.scopes:
            raise Rejected(Code.FORBIDDEN_ORIGIN, f"origin {event.origin} needs the scope {_SCOPES[event.origin]}")
        ts = event_time(event.id, event.ts, self.window)
        agent = _NOBODY if event.agent is None else self.agents.get(event.agent)
        if agent is None:
            raise _unknown(event.agent)
        relation, make = _MAKE[type(event)]
        fact, wallet, asset = make(event, agent, event.network or agent.network, self.caller.project_id, ts)
        getattr(self.drafts, relation).add(fact, wallet, asset, index)


# The values of a fact stand in the order of its fields (store.facts).


def _payment(event: Payment, agent: Agent, network: str, project_id: int, ts: datetime) -> Made:
    fact = facts.Payment(
        project_id,
        ts,
        event.id,
        event.origin,
        event.payment_id,
        agent.id,
        event.status,
        read_amount("amount", event.amount),
        OPEN,
        redact_text(event.service),
        event.request_id,
        redact_optional(event.x402_payment_id),
        None,
        event.session,
        None if event.pay_to is None else _address("pay_to", network, event.pay_to),
        redact_optional(event.resource),
        redact_optional(event.facilitator),
        None if event.signature is None else _signature(network, event.signature),
        event.slot,
        event.commitment,
        event.confirmations,
        event.fee_lamports,
        event.retry_count or 0,
        event.backoff_ms or 0,
        event.error_type,
        redact_optional(event.failure_reason),
        read_json("facilitator_response", event.facilitator_response, event.signature),
        read_json("metadata", event.metadata, event.signature),
    )
    return fact, _wallet(network, event.wallet), (network, event.asset)


def _request(event: ApiRequest, agent: Agent, network: str, project_id: int, ts: datetime) -> Made:
    attempt = event.attempt or 1
    max_retries = agent.max_retries if event.max_retries is None else event.max_retries
    if attempt > max_retries + 1:
        raise Rejected(Code.INVALID_FIELD, f"attempt {attempt} is more than max_retries + 1, {max_retries + 1}")
    fact = facts.ApiRequest(
        project_id,
        ts,
        event.id,
        event.origin,
        event.request_id,
        max_retries,
        agent.id,
        redact_text(event.service),
        event.outcome,
        attempt,
        None,
        event.session,
        redact_name(event.endpoint_type),
        redact_optional(event.resource),
        redact_name(event.method),
        event.response_status,
        event.x402_version,
        read_json("payment_required", event.payment_required),
        event.payment_id,
        bool(event.paid),
        event.latency_ms,
        event.backoff_ms or 0,
        redact_name(event.component),
        event.breaker_state,
        event.error_type,
        redact_optional(event.failure_reason),
        _digest("request_digest", event.request_digest),
        _digest("response_digest", event.response_digest),
        event.response_bytes,
        None if event.data_as_of is None else read_time("data_as_of", event.data_as_of),
    )
    return fact, _wallet(network, event.wallet), None


def _audit(event: Audit, agent: Agent, _network: str, project_id: int, ts: datetime) -> Made:
    fact = facts.AuditEvent(
        project_id,
        ts,
        event.id,
        event.origin,
        event.event_type,
        event.severity or "info",
        None if agent is _NOBODY else agent.id,
        redact_name(event.component),
        event.request_id,
        redact_optional(event.entity_type),
        redact_optional(event.entity_id),
        read_json("details", event.details),
    )
    return fact, None, None


def _queue(event: Queue, agent: Agent, network: str, project_id: int, ts: datetime) -> Made:
    fact = facts.QueueEvent(
        project_id,
        ts,
        event.id,
        event.origin,
        agent.id,
        event.request_id,
        event.state,
        event.priority_score,
        event.reason,
        None if event.asset is None else OPEN,
        None if event.balance is None else read_amount("balance", event.balance),
        event.freshness_s,
    )
    return fact, None, None if event.asset is None else (network, event.asset)


def _balance(event: Balance, agent: Agent, network: str, project_id: int, ts: datetime) -> Made:
    fact = facts.BalanceSample(
        project_id,
        OPEN,
        OPEN,
        ts,
        agent.id,
        read_amount("amount", event.amount),
        event.slot,
        event.commitment or "confirmed",
        event.origin,
        event.status,
        redact_optional(event.reason),
    )
    return fact, _wallet(network, event.wallet), (network, event.asset)


_MAKE: Mapping[type[Event], tuple[str, Callable[..., Made]]] = {
    Payment: ("payments", _payment),
    ApiRequest: ("api_requests", _request),
    Audit: ("audit_events", _audit),
    Queue: ("queue_events", _queue),
    Balance: ("balance_samples", _balance),
}


def _unknown(agent: str | None) -> Rejected:
    return Rejected(
        Code.UNKNOWN_AGENT, f"no agent {shown(agent or '')} is registered; PUT /v1/agents/{{name}}, then send again"
    )


def _digest(member: str, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:  # fromhex skips blanks
        raise Rejected(Code.INVALID_FIELD, f"{member} must be 64 hexadecimal digits; see /v1/schemas")
    return digest


def _wallet(network: str, address: str | None) -> Address | None:
    return None if address is None else (network, _address("wallet", network, address))


def _address(member: str, network: str, text: str) -> bytes:
    try:
        return address_to_bytes(network, text)
    except InvalidValue as exc:
        raise Rejected(Code.INVALID_ADDRESS, f"{member}: {exc}") from exc


def _signature(network: str, text: str) -> bytes:
    try:
        return signature_to_bytes(network, text)
    except InvalidValue as exc:
        raise Rejected(Code.INVALID_ADDRESS, f"signature: {exc}") from exc
