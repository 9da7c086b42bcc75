"""Checked events of one batch → drafts: facts whose wallets and mints are still to be looked up (store.drafts).

Agents and symbols are looked up here, because an event that names an unknown one is refused; the directory remembers
them, so that this works for a while without the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.decode import read_amount, read_json, read_time
from api.dependencies import Caller
from api.events import AnyEvent, ApiRequest, Audit, Balance, Event, Payment, Queue
from api.keeper import no_id
from api.rejections import Code, Rejected, shown
from store import facts
from store.addresses import address_to_bytes, signature_to_bytes
from store.directory import Address, Agent, AssetName, Directory, mint_of
from store.drafts import OPEN, Drafts
from store.errors import InvalidValue
from store.redact import redact_text

BREATH = 500
"""Events handled between two looks at the event loop, so that a large batch does not hold up everyone else."""

_OPEN_WALLET: Mapping[type[Event], dict[str, int]] = {Payment: {}, ApiRequest: {}, Balance: {"wallet_id": OPEN}}
_SCOPES = {"agent": "ingest", "facilitator": "ingest:facilitator"}


@dataclass(kw_only=True)
class Candidate:
    """An event on its way to a draft. `fields`: the fact's; `refused` ends the way."""

    index: int
    event: AnyEvent
    ts: datetime
    fields: dict[str, Any] = field(default_factory=dict)
    wallet: Address | None = None
    asset: AssetName | None = None
    refused: Rejected | None = None


async def make_drafts(candidates: list[Candidate], caller: Caller, directory: Directory) -> Drafts:
    """The drafts of a batch. Events that cannot become one have their reason in `refused`. Raises DatabaseError."""
    project_id = caller.project_id
    names = {candidate.event.agent for candidate in candidates if candidate.event.agent is not None}
    agents = await directory.agents(project_id, names)
    going = await _each(candidates, lambda one: _check(one, caller, agents))
    symbols = {one.asset for one in going if one.asset is not None and mint_of(one.asset) is None}
    assets = await directory.assets(project_id, symbols)
    going = await _each(going, lambda one: _check_symbol(one, assets))
    drafts = Drafts(project_id=project_id)
    for one in going:
        relation, fact = _FACTS[type(one.event)]
        getattr(drafts, relation).add(fact(**one.fields), one.wallet, one.asset, one.index)
    return drafts


async def _each(candidates: list[Candidate], step: Callable[[Candidate], None]) -> list[Candidate]:
    """Take every event one step further; those that got there."""
    for count, candidate in enumerate(candidates, 1):
        if count % BREATH == 0:
            await asyncio.sleep(0)
        try:
            step(candidate)
        except Rejected as exc:
            candidate.refused = exc
    return [candidate for candidate in candidates if candidate.refused is None]


def _check(candidate: Candidate, caller: Caller, agents: Mapping[str, Agent]) -> None:
    """Everything but the ids of wallet and asset."""
    event = candidate.event
    if _SCOPES[event.origin] not in caller.scopes:
        raise Rejected(Code.FORBIDDEN_ORIGIN, f"origin {event.origin} needs the scope {_SCOPES[event.origin]}")
    fields = candidate.fields
    fields.update(project_id=caller.project_id, ts=candidate.ts, origin=event.origin)
    if event.agent is None:
        assert isinstance(event, Audit)
        fields.update(_audit_fields(event))
        return
    agent = agents.get(event.agent)
    if agent is None:
        raise Rejected(
            Code.UNKNOWN_AGENT, f"no agent {shown(event.agent)} is registered; PUT /v1/agents/{{name}}, then send again"
        )
    fields["agent_id"] = agent.id
    network = event.network or agent.network
    fields.update(_own_fields(event, network, agent))
    if isinstance(event, Payment | ApiRequest | Balance) and event.wallet is not None:
        candidate.wallet = (network, _address("wallet", network, event.wallet))
        fields.update(_OPEN_WALLET[type(event)])
    if isinstance(event, Payment | Queue | Balance) and event.asset is not None:
        candidate.asset = (network, event.asset)
        fields["asset_id"] = OPEN


def _own_fields(event: AnyEvent, network: str, agent: Agent) -> dict[str, Any]:
    """What is special to the event's type."""
    match event:
        case Payment():
            return _payment_fields(event, network)
        case ApiRequest():
            return _request_fields(event, agent)
        case Queue():
            return _queue_fields(event)
        case Balance():
            return _balance_fields(event)
        case Audit():
            return _audit_fields(event)


def _payment_fields(event: Payment, network: str) -> dict[str, Any]:
    return {
        "id": event.id,
        "payment_id": event.payment_id,
        "request_id": event.request_id,
        "x402_payment_id": _clean(event.x402_payment_id),
        "session_id": event.session,
        "status": event.status,
        "amount": read_amount("amount", event.amount),
        "pay_to": None if event.pay_to is None else _address("pay_to", network, event.pay_to),
        "service": redact_text(event.service),
        "resource": _clean(event.resource),
        "facilitator": _clean(event.facilitator),
        "signature": None if event.signature is None else _signature(network, event.signature),
        "slot": event.slot,
        "commitment": event.commitment,
        "confirmations": event.confirmations,
        "fee_lamports": event.fee_lamports,
        "retry_count": event.retry_count or 0,
        "backoff_ms": event.backoff_ms or 0,
        "error_type": event.error_type,
        "failure_reason": _clean(event.failure_reason),
        "facilitator_response": read_json("facilitator_response", event.facilitator_response),
        "metadata": read_json("metadata", event.metadata),
    }


def _request_fields(event: ApiRequest, agent: Agent) -> dict[str, Any]:
    attempt = event.attempt or 1
    max_retries = agent.max_retries if event.max_retries is None else event.max_retries
    if attempt > max_retries + 1:
        raise Rejected(Code.INVALID_FIELD, f"attempt {attempt} is more than max_retries + 1, {max_retries + 1}")
    return {
        "id": event.id,
        "request_id": event.request_id,
        "attempt": attempt,
        "max_retries": max_retries,
        "session_id": event.session,
        "service": redact_text(event.service),
        "endpoint_type": _clean(event.endpoint_type),
        "resource": _clean(event.resource),
        "method": _clean(event.method),
        "response_status": event.response_status,
        "x402_version": event.x402_version,
        "payment_required": read_json("payment_required", event.payment_required),
        "payment_id": event.payment_id,
        "paid": bool(event.paid),
        "latency_ms": event.latency_ms,
        "backoff_ms": event.backoff_ms or 0,
        "component": _clean(event.component),
        "breaker_state": event.breaker_state,
        "outcome": event.outcome,
        "error_type": event.error_type,
        "failure_reason": _clean(event.failure_reason),
        "request_digest": _digest(event.request_digest),
        "response_digest": _digest(event.response_digest),
        "response_bytes": event.response_bytes,
        "data_as_of": None if event.data_as_of is None else read_time("data_as_of", event.data_as_of),
    }


def _audit_fields(event: Audit) -> dict[str, Any]:
    return {
        "id": event.id,
        "event_type": event.event_type,
        "severity": event.severity or "info",
        "component": _clean(event.component),
        "request_id": event.request_id,
        "entity_type": _clean(event.entity_type),
        "entity_id": _clean(event.entity_id),
        "details": read_json("details", event.details),
    }


def _queue_fields(event: Queue) -> dict[str, Any]:
    return {
        "id": event.id,
        "request_id": event.request_id,
        "state": event.state,
        "priority_score": event.priority_score,
        "reason": event.reason,
        "balance": None if event.balance is None else read_amount("balance", event.balance),
        "freshness_s": event.freshness_s,
    }


def _balance_fields(event: Balance) -> dict[str, Any]:
    return {
        "amount": read_amount("amount", event.amount),
        "slot": event.slot,
        "commitment": event.commitment or "confirmed",
        "status": event.status,
        "reason": _clean(event.reason),
    }


def _check_symbol(candidate: Candidate, assets: Mapping[AssetName, int]) -> None:
    name = candidate.asset
    if name is not None and name not in assets and mint_of(name) is None:
        raise no_id(name)


_FACTS: Mapping[type[Event], tuple[str, Callable[..., object]]] = {
    Payment: ("payments", facts.Payment),
    ApiRequest: ("api_requests", facts.ApiRequest),
    Audit: ("audit_events", facts.AuditEvent),
    Queue: ("queue_events", facts.QueueEvent),
    Balance: ("balance_samples", facts.BalanceSample),
}


def _clean(text: str | None) -> str | None:
    return None if text is None else redact_text(text)


def _digest(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


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
