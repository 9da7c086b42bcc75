"""Hourly reads: rollups, summed over the grouping that was asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.problems import documented
from api.reads.answers import Asker, Listed, Reads, as_json, items_of, page_of, start_of, tagged
from api.reads.fields import instant
from api.reads.models import HourlyPage, PaymentsHourItem, RequestsHourItem
from api.reads.questions import (
    PAYMENT_GROUPS,
    REQUEST_GROUPS,
    PaymentsHourlyQuestion,
    RangeQuestion,
    RequestsHourlyQuestion,
)
from api.reads.ranges import HOURLY_RANGE
from store.engine import reading
from store.readers.listings import PAYMENTS_HOURLY, REQUESTS_HOURLY, read_hours
from store.rollups import exact_until

router = APIRouter(tags=["reads"], responses=documented(401, 403, 404, 422, 503))


@router.get("/v1/payments/hourly", response_model=HourlyPage[PaymentsHourItem], response_model_exclude_unset=True)
async def list_payments_hourly(who: Reads, question: Annotated[PaymentsHourlyQuestion, Query()]) -> Response:
    """Payments per hour, newest first. Amounts of different assets are never added: `asset` is always grouped by.

    A payment counts once in each status that it went through, so group by `status`, or ask for one, before adding.
    """
    listed = Listed(
        listing=PAYMENTS_HOURLY,
        item=PaymentsHourItem,
        read=read_hours,
        widest=HOURLY_RANGE,
        without=frozenset(PAYMENT_GROUPS) - {*question.group_by.split(","), "asset"},
    )
    return await answer_hourly(who, listed, question, "payments_hourly")


@router.get("/v1/requests/hourly", response_model=HourlyPage[RequestsHourItem], response_model_exclude_unset=True)
async def list_requests_hourly(who: Reads, question: Annotated[RequestsHourlyQuestion, Query()]) -> Response:
    """Attempts per hour, newest first."""
    listed = Listed(
        listing=REQUESTS_HOURLY,
        item=RequestsHourItem,
        read=read_hours,
        widest=HOURLY_RANGE,
        without=frozenset(REQUEST_GROUPS) - {*question.group_by.split(",")},
    )
    return await answer_hourly(who, listed, question, "requests_hourly")


async def answer_hourly(who: Asker, listed: Listed, question: RangeQuestion, rollup: str) -> Response:
    """One page of hours with `exact_until`; with an ETag where the whole range is exact. Problems: 404, 422, 503."""
    start = start_of(who, listed, question)
    assert start.window is not None
    async with reading(who.state.engine) as connection:
        # Before the page: what is refreshed in between makes the page better than it says, never worse.
        exact = await exact_until(connection, who.state.edition, rollup)
        page = await page_of(connection, who, listed, question, start)
    # No later than the range, so that an answer of exact hours stays the same, byte for byte, as time goes on.
    body = items_of(who, listed, question, start, page)
    body["exact_until"] = instant(min(exact, start.window.to_ts))
    if _end_of_hour(start.window.to_ts) <= exact:
        return tagged(who.request, body)
    return as_json(body, {"Cache-Control": "no-store"})


def _end_of_hour(moment: datetime) -> datetime:
    start = moment.replace(minute=0, second=0, microsecond=0)
    return moment if start == moment else start + timedelta(hours=1)
