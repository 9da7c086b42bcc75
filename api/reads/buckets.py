"""Reads of hours and days: rollups, summed over the grouping that was asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.problems import documented
from api.reads.answers import Asker, Listed, Reads, as_json, items_of, page_of, start_of, tagged
from api.reads.choices import PAYMENT_GROUPS, REQUEST_GROUPS, RETRY_GROUPS, SPEND_GROUPS
from api.reads.models_buckets import BucketPage, PaymentsBucketItem, RequestsBucketItem, RetryHealthItem, SpendItem
from api.reads.questions import (
    PaymentsHourlyQuestion,
    RangeQuestion,
    RequestsHourlyQuestion,
    RetryHealthQuestion,
    SpendQuestion,
)
from api.reads.ranges import DAILY_RANGE, DEFAULT_DAYS, HOURLY_RANGE, RAW_RANGE
from api.times import time_text
from store.engine import reading
from store.errors import InvalidValue
from store.readers import listings_buckets
from store.readers.listings_buckets import BucketListing, read_buckets
from store.rollups import floor

router = APIRouter(tags=["reads"], responses=documented(401, 403, 404, 422, 503))

QUANTILES = frozenset({"latency_ms_p50", "latency_ms_p95", "latency_ms_p99"})


@router.get("/v1/payments/hourly", response_model=BucketPage[PaymentsBucketItem], response_model_exclude_unset=True)
async def list_payments_hourly(who: Reads, question: Annotated[PaymentsHourlyQuestion, Query()]) -> Response:
    """Payments per hour (400 days at most) or day (5 years), newest first. Amounts of different assets are never added:
    `asset` is always grouped by.

    A payment counts once in each status that it went through, so group by `status`, or ask for one, before adding.
    """
    without = _left_out(PAYMENT_GROUPS, question.group_by)
    listed = of_buckets(listings_buckets.PAYMENTS, PaymentsBucketItem, question.bucket, without)
    return await answer_buckets(who, listed, question)


@router.get("/v1/requests/hourly", response_model=BucketPage[RequestsBucketItem], response_model_exclude_unset=True)
async def list_requests_hourly(who: Reads, question: Annotated[RequestsHourlyQuestion, Query()]) -> Response:
    """Attempts per hour (400 days at most) or day (5 years), newest first, and quantiles of their latency.

    Latency is kept by agent and service alone: `quantiles` goes with neither `outcome` nor a grouping by it.
    """
    if question.group_by is None:
        question = question.model_copy(update={"group_by": "" if question.quantiles else "outcome"})
    groups = question.group_by or ""
    if question.quantiles and ("outcome" in groups or question.outcome is not None):
        raise InvalidValue("latency is not kept by outcome; with `quantiles` group by agent and service only")
    without = _left_out(REQUEST_GROUPS, groups) | (frozenset() if question.quantiles else QUANTILES)
    listed = of_buckets(listings_buckets.REQUESTS, RequestsBucketItem, question.bucket, without)
    return await answer_buckets(who, listed, question)


@router.get("/v1/spend", response_model=BucketPage[SpendItem], response_model_exclude_unset=True)
async def list_spend(who: Reads, question: Annotated[SpendQuestion, Query()]) -> Response:
    """What was bought from whom: settled payments, whoever told of them first, per hour (400 days at most) or day
    (5 years), newest first. `asset` is always grouped by.
    """
    without = _left_out(SPEND_GROUPS, question.group_by)
    listed = of_buckets(listings_buckets.SPEND, SpendItem, question.bucket, without)
    return await answer_buckets(who, listed, question)


@router.get("/v1/retry-health", response_model=BucketPage[RetryHealthItem], response_model_exclude_unset=True)
async def list_retry_health(who: Reads, question: Annotated[RetryHealthQuestion, Query()]) -> Response:
    """What retries and breakers cost and save: per hour, newest first (400 days at most), or over the whole range with
    `bucket=total` (31 days at most).
    """
    without = _left_out(RETRY_GROUPS, question.group_by)
    if question.bucket == "1h":
        listed = of_buckets(listings_buckets.RETRY_HEALTH, RetryHealthItem, "1h", without)
    else:
        totals = listings_buckets.RETRY_HEALTH_TOTALS
        listed = Listed(listing=totals, item=RetryHealthItem, widest=RAW_RANGE, without=without | {"bucket"})
    return await answer_buckets(who, listed, question)


def of_buckets(
    listing: BucketListing[Any], item: type[BaseModel], bucket: str, without: frozenset[str] = frozenset()
) -> Listed:
    """A list of hours (`1h`) or days (`1d`), as a route has it."""
    if bucket == "1h":
        return Listed(listing=listing, item=item, read=read_buckets, widest=HOURLY_RANGE, without=without)
    return Listed(
        listing=listing.daily(),
        item=item,
        read=read_buckets,
        widest=DAILY_RANGE,
        default=DEFAULT_DAYS,
        without=without,
    )


def _left_out(dimensions: tuple[str, ...], asked: str) -> frozenset[str]:
    return frozenset(dimensions) - {*asked.split(","), "asset"}


async def answer_buckets(who: Asker, listed: Listed, question: RangeQuestion) -> Response:
    """One page with `exact_until`; with an ETag where the whole range is exact. Problems: 404, 422, 503."""
    listing = listed.listing
    assert isinstance(listing, BucketListing)
    start = start_of(who, listed, question)
    assert start.window is not None
    async with reading(who.state.engine) as connection:
        # Before the page: what is refreshed in between makes the page better than it says, never worse.
        exact = await listing.exact_until(connection, who.state.edition)
        page = await page_of(connection, who, listed, question, start)
    # No later than the range, so that an answer of exact buckets stays the same, byte for byte, as time goes on.
    body = items_of(who, listed, question, start, page)
    body["exact_until"] = time_text(min(exact, start.window.to_ts))
    if _end_of_bucket(start.window.to_ts, listing.size) <= exact:
        return tagged(who.request, body)
    return as_json(body, {"Cache-Control": "no-store"})


def _end_of_bucket(moment: datetime, size: timedelta) -> datetime:
    start = floor(moment, size)
    return moment if start == moment else start + size
