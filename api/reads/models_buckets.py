"""What reads of hours and days answer. `bucket` is the start of one, UTC."""

from __future__ import annotations

from typing import Annotated, Generic

from pydantic import BaseModel, Field

from api.reads.fields import Amount, Instant, Written, json_text
from api.reads.models import AgentName, Asset, I, Network, Page, Service, WalletAddress


class BucketPage(Page[I], Generic[I]):
    """One page of hours or days."""

    exact_until: Instant = Field(
        description="Buckets that end before this are exact and final but for late events; never later than the range"
    )


class BalancesBucketItem(BaseModel):
    """Balances of one wallet and asset in one bucket: extremes, first and last by slot, flows."""

    bucket: Instant
    agent: AgentName
    network: Network
    wallet: WalletAddress
    asset: Asset
    samples: int
    low_samples: int
    amount_min: Amount
    amount_max: Amount
    amount_first: Amount
    amount_last: Amount
    slot_last: int
    inflow: Amount = Field(description="Sum of the rises from sample to sample")
    outflow: Amount = Field(description="Sum of the falls from sample to sample")


class PaymentsBucketItem(BaseModel):
    """Payments of one bucket and group. Of agent, service, status and origin it has those that were asked for."""

    bucket: Instant
    agent: AgentName = ""
    asset: Asset
    network: Network
    service: Service = ""
    status: str = ""
    origin: str = ""
    payments: int = Field(description="Transitions that were no repeats: a payment counts once per status")
    duplicates: int
    amount: Amount
    retry_amount: Amount = Field(description="Of it: paid on retries")
    fee_lamports: Amount
    retries: int


class RequestsBucketItem(BaseModel):
    """Attempts of one bucket and group. Of agent, service and outcome it has those that were asked for."""

    bucket: Instant
    agent: AgentName = ""
    service: Service = ""
    outcome: str = ""
    requests: int
    retries: int = Field(description="Attempts after the first")
    retry_successes: int = Field(description="Of them: ended well")
    paid: int
    latency_ms_sum: int
    latency_ms_min: int | None
    latency_ms_max: int | None
    latency_ms_p50: float | None = Field(None, description="With `quantiles=true`; within 2 %")
    latency_ms_p95: float | None = None
    latency_ms_p99: float | None = None
    backoff_ms_sum: int
    response_bytes_sum: int


class SpendItem(BaseModel):
    """What was bought in one bucket: settled payments. Of agent and service it has those that were asked for."""

    bucket: Instant
    agent: AgentName = ""
    asset: Asset
    network: Network
    service: Service = ""
    payments: int
    amount: Amount
    retry_amount: Amount = Field(description="Of it: paid on retries")
    price: Amount = Field(description="Average of one payment, to the nearest atomic unit")


class RetryAmounts(BaseModel):
    """Money that retries cost and open breakers saved, of one asset."""

    asset: Asset
    network: Network
    retry_amount: Amount
    avoided_amount: Amount = Field(description="Attempts skipped, at the average price of the 24 hours before")


class RetryHealthItem(BaseModel):
    """What retries and breakers cost and save. Of agent and service it has those that were asked for."""

    bucket: Instant = Field("", description="With `bucket=1h`")
    agent: AgentName = ""
    service: Service = ""
    attempts: int
    retries: int = Field(description="Attempts after the first")
    retry_successes: int = Field(description="Of them: ended well")
    skipped: int = Field(description="Attempts that an open breaker stopped; not among `attempts`")
    backoff_ms: int
    retry_rate: float | None = Field(description="retries / attempts")
    retry_success_rate: float | None = Field(description="retry_successes / retries")
    amounts: Annotated[list[RetryAmounts], Written(json_text)]
