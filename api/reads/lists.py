"""Lists of facts and of present state."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from api.problems import documented
from api.reads.answers import Listed, Reads, answer, as_json
from api.reads.buckets import answer_buckets, of_buckets
from api.reads.choices import Name
from api.reads.fields import write
from api.reads.models import (
    AgentDetail,
    AgentItem,
    AuditItem,
    BalanceItem,
    Page,
    PaymentDetail,
    PaymentItem,
    RequestItem,
    SampleItem,
    ThresholdItem,
    WalletItem,
)
from api.reads.models_buckets import BalancesBucketItem, BucketPage
from api.reads.questions import (
    AgentsQuestion,
    AuditQuestion,
    BalanceHistoryQuestion,
    BalancesQuestion,
    PaymentsQuestion,
    RequestsQuestion,
)
from store.engine import reading
from store.errors import InvalidValue
from store.readers import details, listings, listings_buckets
from store.readers.values import Wallet

router = APIRouter(tags=["reads"], responses=documented(401, 403, 404, 422, 503))

AGENTS = Listed(listing=listings.AGENTS, item=AgentItem)
BALANCES = Listed(listing=listings.BALANCES, item=BalanceItem)
SAMPLES = Listed(listing=listings.SAMPLES, item=SampleItem, read=listings.read_samples, is_one_snapshot=True)
PAYMENTS = Listed(listing=listings.PAYMENTS, item=PaymentItem)
REQUESTS = Listed(listing=listings.REQUESTS, item=RequestItem, read=listings.read_parts, is_one_snapshot=True)
AUDIT_EVENTS = Listed(listing=listings.AUDIT_EVENTS, item=AuditItem)


@router.get("/v1/agents", response_model=Page[AgentItem])
async def list_agents(who: Reads, question: Annotated[AgentsQuestion, Query()]) -> Response:
    """The project's agents by name, archived ones too."""
    return await answer(who, AGENTS, question)


@router.get("/v1/agents/{name}", response_model=AgentDetail)
async def read_agent(who: Reads, name: Annotated[Name, Path()]) -> Response:
    """One agent and its wallets, with the thresholds that are a wallet's own."""
    async with reading(who.state.engine) as connection:
        agent, wallets = await details.agent(connection, who.caller.project_id, name)
    without = frozenset({"wallets"})
    return as_json(write(AgentDetail, agent, without) | {"wallets": [_wallet(wallet) for wallet in wallets]})


def _wallet(wallet: Wallet) -> dict[str, Any]:
    thresholds = [write(ThresholdItem, threshold) for threshold in wallet.thresholds]
    return write(WalletItem, wallet, frozenset({"thresholds"})) | {"thresholds": thresholds}


@router.get("/v1/balances", response_model=Page[BalanceItem])
async def list_balances(who: Reads, question: Annotated[BalancesQuestion, Query()]) -> Response:
    """The newest balance of every wallet and asset, by slot."""
    return await answer(who, BALANCES, question)


@router.get("/v1/balances/history", response_model=Page[SampleItem] | BucketPage[BalancesBucketItem])
async def list_balance_history(who: Reads, question: Annotated[BalanceHistoryQuestion, Query()]) -> Response:
    """Samples: wallet by wallet and asset by asset, each newest first (31 days at most). With `bucket=1h` hours (400
    days at most), with `bucket=1d` days (5 years), newest first.
    """
    if question.bucket is None:
        return await answer(who, SAMPLES, question)
    if question.status is not None:
        raise InvalidValue("`status` is a sample's; leave it out with `bucket`")
    return await answer_buckets(
        who, of_buckets(listings_buckets.BALANCES, BalancesBucketItem, question.bucket), question
    )


@router.get("/v1/payments", response_model=Page[PaymentItem])
async def list_payments(who: Reads, question: Annotated[PaymentsQuestion, Query()]) -> Response:
    """Transitions of payments, newest first; repeats only with `duplicates=true`. 31 days at most."""
    return await answer(who, PAYMENTS, question)


@router.get("/v1/payments/{payment_id}", response_model=PaymentDetail)
async def read_payment(who: Reads, payment_id: UUID) -> Response:
    """Present state of one payment, and its transitions, oldest first, up to a day after the one that decided."""
    async with reading(who.state.engine) as connection:
        head, transitions = await details.payment(connection, who.caller.project_id, payment_id)
    told = [write(PaymentItem, transition) for transition in transitions]
    return as_json(write(PaymentDetail, head, frozenset({"transitions"})) | {"transitions": told})


@router.get("/v1/requests", response_model=Page[RequestItem])
async def list_requests(who: Reads, question: Annotated[RequestsQuestion, Query()]) -> Response:
    """Attempts of requests, newest first. 31 days at most."""
    return await answer(who, REQUESTS, question)


@router.get("/v1/audit-events", response_model=Page[AuditItem])
async def list_audit_events(who: Reads, question: Annotated[AuditQuestion, Query()]) -> Response:
    """Audit events, and who dealt with them, newest first. 31 days at most."""
    return await answer(who, AUDIT_EVENTS, question)
