"""Rows of rollups, summed over the grouping that was asked for. See store/readers/values.py for the types of fields."""

from __future__ import annotations

from datetime import datetime

from store.readers.values import Summed


class Bucket(Summed, frozen=True, kw_only=True):
    """One group of one hour or day; `bucket` is its start. Dimensions that were not asked for are 0, '' or None."""

    bucket: datetime


class PaymentsBucket(Bucket, frozen=True, kw_only=True):
    """Payments. Sums leave repeats out; `retry_amount`: what was paid on retries."""

    agent_id: int
    asset_id: int
    agent: str | None
    asset: str
    network: str
    service: str
    status: str
    origin: str
    payments: int
    duplicates: int
    amount: int
    retry_amount: int
    fee_lamports: int
    retries: int


class RequestsBucket(Bucket, frozen=True, kw_only=True):
    """Attempts. Latencies are of those that told one; quantiles are None where nobody asked for them."""

    agent_id: int
    agent: str | None
    service: str
    outcome: str
    requests: int
    retries: int
    retry_successes: int
    paid: int
    latency_ms_sum: int
    latency_ms_min: int | None
    latency_ms_max: int | None
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    latency_ms_p99: float | None
    backoff_ms_sum: int
    response_bytes_sum: int


class BalancesBucket(Bucket, frozen=True, kw_only=True):
    """Balances: extremes, the first and last by slot, and what flowed in and out between samples."""

    wallet_id: int
    asset_id: int
    agent_id: int
    agent: str
    network: str
    wallet: str
    asset: str
    samples: int
    low_samples: int
    amount_min: int
    amount_max: int
    amount_first: int
    amount_last: int
    slot_last: int
    inflow: int
    outflow: int


class Spend(Bucket, frozen=True, kw_only=True):
    """What was bought: settled payments. `price`: their average, `retry_amount`: what was paid on retries."""

    agent_id: int
    asset_id: int
    agent: str | None
    asset: str
    network: str
    service: str
    payments: int
    amount: int
    retry_amount: int
    price: int


class RetryHealth(Bucket, frozen=True, kw_only=True):
    """What retries and breakers cost and save. `amounts`: JSON, one object per asset. A total has the range's start."""

    agent_id: int
    agent: str | None
    service: str
    attempts: int
    retries: int
    retry_successes: int
    skipped: int
    backoff_ms: int
    retry_rate: float | None
    retry_success_rate: float | None
    amounts: str
