"""*Payments and spend*: what was bought from whom, at what price, and whether it settled."""

from __future__ import annotations

from typing import Any

from grafana.boards import AGENT, ASSET, NETWORK, SERVICE, Board
from grafana.looks import STATES, TOKENS, color, link, steps, unit, width, words
from grafana.panels import Panel, Section, hourly, sql_panel
from grafana.sdk import POSTGRES

SETTLED = ((None, "red"), (0.8, "orange"), (0.95, "green"))
"""A fifth that fails is what the alert on payment failures takes."""
OPEN_AGE = ((None, "green"), (120, "orange"), (900, "red"))
"""Seconds. A Solana transaction that has not landed after two minutes will not: its blockhash has expired."""
TO_FLEET = link("What it has left", "tollwatch-fleet", "agent")
TO_RETRIES = link("What is retried there", "tollwatch-breakers", "service")


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="tollwatch-payments",
        title="Payments and spend",
        description="Hourly money and counts by status, origin, service and agent; prices, latency, and what is still "
        "open.",
        plugin=POSTGRES,
        since="24h",
        refresh="1m",
        variables=(NETWORK, AGENT, ASSET, SERVICE),
        items=[*_now(), *_spend(), *_status(), *_answers()],
    )


def _now() -> list[Panel]:
    common: dict[str, Any] = {"width": 4, "height": 4}
    return [
        sql_panel(
            "stat",
            "payments.settled_total",
            id=1,
            title="Settled",
            description="Money that settled in the hours that begin within the range, per asset.",
            unit=TOKENS,
            **common,
        ),
        sql_panel(
            "stat",
            "payments.settled_count",
            id=2,
            title="Settled payments",
            description="Each counts once, however often it was told.",
            **common,
        ),
        sql_panel(
            "stat",
            "payments.settled_share",
            id=3,
            title="Settled of those that ended",
            description="The rest failed or was reverted: the reasons are at the bottom.",
            unit="percentunit",
            decimals=1,
            steps=SETTLED,
            **common,
        ),
        sql_panel(
            "stat",
            "payments.open_count",
            id=4,
            title="Open payments",
            description="Pending, verified, retrying or unknown now. Those that stay open are listed below: ask the "
            "chain.",
            steps=((None, "green"), (10, "orange")),
            **common,
        ),
        sql_panel(
            "stat",
            "payments.open_money",
            id=5,
            title="Open money",
            description="May be gone, may come back. Do not spend it twice.",
            unit=TOKENS,
            **common,
        ),
        sql_panel(
            "stat",
            "payments.open_oldest",
            id=6,
            title="Oldest open payment",
            description="After two minutes nothing settles by itself any more: look for its signature on the chain.",
            unit="s",
            steps=OPEN_AGE,
            **common,
        ),
    ]


def _spend() -> list[Panel | Section]:
    common: dict[str, Any] = {"width": 8, "height": 9, "unit": TOKENS}
    panels = [
        sql_panel(
            "bars",
            "payments.settled_by_service",
            id=11,
            title="Spend by service",
            description="Settled money per hour. A service that grows without more work has raised its price.",
            **common,
        ),
        sql_panel(
            "bars",
            "payments.settled_by_agent",
            id=12,
            title="Spend by agent",
            description="Settled money per hour. Compare an agent that stands out with its balance in 'Fleet'.",
            **common,
        ),
        sql_panel(
            "lines",
            "payments.price",
            id=13,
            title="Average price",
            description="Settled money per payment, by service. A step is a new price: was it announced?",
            **common,
        ),
    ]
    return [
        Section(id=10, title="Spend"),
        *(hourly(panel) for panel in panels),
        sql_panel(
            "table",
            "payments.spend_by_service",
            id=14,
            title="What was bought from whom",
            description="The 200 that most was spent on over the range. price_min and price_max are the lowest and "
            "highest average of an hour; over more than a day: of a day.",
            width=24,
            columns={
                "service": TO_RETRIES,
                "agent": TO_FLEET,
                "tokens": unit(TOKENS),
                "retry_tokens": unit(TOKENS),
                "price_min": unit(TOKENS),
                "price": unit(TOKENS),
                "price_max": unit(TOKENS),
            },
        ),
    ]


def _status() -> list[Panel | Section]:
    states = {f"/^{status}( |$)/": color(shade) for status, shade in STATES.items() if status in _STATUSES}
    panels = [
        sql_panel(
            "lines",
            "payments.amount_by_status",
            id=21,
            title="Money by status",
            description="Per hour. A payment counts once in each status that it reached: do not add statuses up.",
            unit=TOKENS,
            series=states,
            width=12,
        ),
        sql_panel(
            "lines",
            "payments.count_by_status",
            id=22,
            title="Payments by status",
            description="Per hour. More pending than settled for long: claims that nobody settles.",
            series=states,
            width=12,
        ),
        sql_panel(
            "bars",
            "payments.settled_by_origin",
            id=23,
            title="Settled money by who said so first",
            description="Per hour. What only agents say is a claim: compare it with the chain.",
            unit=TOKENS,
            width=12,
        ),
        sql_panel(
            "bars",
            "payments.repeats_by_origin",
            id=24,
            title="Repeated claims",
            description="A status that somebody had told before. The chain repeating an agent is good; an agent "
            "repeating itself may pay twice.",
            width=12,
        ),
    ]
    return [
        Section(id=20, title="Status and origin"),
        *(hourly(panel) for panel in panels),
        sql_panel(
            "table",
            "payments.open_payments",
            id=25,
            title="Open payments",
            description="The oldest first. Ask the chain before the agent pays again.",
            width=12,
            columns={
                "agent": TO_FLEET,
                "status": words(STATES),
                "age_s": (*unit("s", 0), *steps(*OPEN_AGE)),
                "tokens": unit(TOKENS),
                "payment_id": width(120),
                "request_id": width(120),
            },
        ),
        sql_panel(
            "table",
            "payments.failures",
            id=26,
            title="Payments that failed",
            description="The newest 100 within the range. insufficient_funds: top up; rejected: ask the facilitator; "
            "reverted: the chain took it back.",
            width=12,
            columns={
                "agent": TO_FLEET,
                "service": TO_RETRIES,
                "status": words(STATES),
                "tokens": unit(TOKENS),
                "signature": width(120),
                "payment_id": width(120),
            },
        ),
    ]


_STATUSES = {"pending", "verified", "settled", "failed", "reverted", "retrying", "unknown"}


def _answers() -> list[Panel | Section]:
    panels = [
        sql_panel(
            "lines",
            "payments.latency",
            id=31,
            title="Latency, p50 and p95",
            description="Of every attempt, payment included. If p95 leaves p50 behind, some answers are paid for and "
            "waited for.",
            unit="ms",
            width=12,
        ),
        sql_panel(
            "bars",
            "payments.outcomes",
            id=32,
            title="Attempts by outcome",
            description="Per hour. payment_required: the price was asked and not paid; failed: no attempt is left.",
            width=12,
            series={
                "/^ok$/": color("green"),
                "/^payment_required$/": color("yellow"),
                "/^retrying$/": color("orange"),
                "/^failed$/": color("red"),
                "/^skipped_open$/": color("blue"),
            },
        ),
    ]
    return [Section(id=30, title="Answers"), *(hourly(panel) for panel in panels)]
