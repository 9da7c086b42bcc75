"""*Circuit breakers and retries*: what is held back, and what trying again costs and brings."""

from __future__ import annotations

from typing import Any

from grafana.boards import AGENT, COMPONENT, NETWORK, SERVICE, Board
from grafana.looks import STATES, TOKENS, color, link, steps, unit, words
from grafana.panels import Panel, Section, hourly, sql_panel
from grafana.sdk import POSTGRES

RETRY_RATE = ((None, "green"), (0.2, "orange"), (0.5, "red"))
"""Half of the attempts is what the alert on retry storms takes."""
SUCCESS = ((None, "red"), (0.5, "orange"), (0.8, "green"))
TO_PAYMENTS = link("What it pays", "tollwatch-payments", "agent")
TO_SERVICE = link("What is paid there", "tollwatch-payments", "service")


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="tollwatch-breakers",
        title="Circuit breakers and retries",
        description="State of every breaker over time; retries, what they cost, and what open breakers saved.",
        plugin=POSTGRES,
        since="24h",
        refresh="1m",
        variables=(NETWORK, AGENT, COMPONENT, SERVICE),
        items=[*_now(), *_breakers(), *_retries(), *_reasons()],
    )


def _now() -> list[Panel]:
    common: dict[str, Any] = {"width": 4, "height": 4}
    return [
        sql_panel(
            "stat",
            "breakers.breakers_not_closed",
            id=1,
            title="Not closed",
            description="Breakers that are open or half open now. Look at what failed before they opened.",
            steps=((None, "green"), (1, "orange")),
            **common,
        ),
        sql_panel(
            "stat",
            "breakers.retry_rate_total",
            id=2,
            title="Retry rate",
            description="Retries of all attempts. Above half an agent mostly repeats itself: stop it, then find the "
            "cause below.",
            unit="percentunit",
            decimals=1,
            steps=RETRY_RATE,
            **common,
        ),
        sql_panel(
            "stat",
            "breakers.retry_success_total",
            id=3,
            title="Success after retry",
            description="Retries that were answered. If few are, retrying only costs: lower max_retries.",
            unit="percentunit",
            decimals=1,
            steps=SUCCESS,
            **common,
        ),
        sql_panel(
            "stat",
            "breakers.retry_cost_total",
            id=4,
            title="Spent by retries",
            description="Money settled for attempts after the first. Ask the service for it back where the first was "
            "paid too.",
            unit=TOKENS,
            **common,
        ),
        sql_panel(
            "stat",
            "breakers.avoided_total",
            id=5,
            title="Avoided by open breakers",
            description="Attempts that were skipped, at the price of the 24 h before (over a day: of the same day "
            "and the one before). What the breakers are worth.",
            unit=TOKENS,
            **common,
        ),
        sql_panel(
            "stat",
            "breakers.skipped_total",
            id=6,
            title="Skipped attempts",
            description="Attempts that open breakers held back: answers that agents did without.",
            **common,
        ),
    ]


def _breakers() -> list[Panel | Section]:
    return [
        Section(id=10, title="Breakers"),
        sql_panel(
            "timeline",
            "breakers.states",
            id=11,
            title="States",
            description="One line per agent and component. Short red stretches in a row are a breaker that closes too "
            "early: lengthen breaker_timeout_s.",
            width=16,
            height=10,
        ),
        sql_panel(
            "gauge",
            "breakers.time_not_closed",
            id=12,
            title="Time not closed",
            description="Share of the range. A breaker that is seldom closed stands before a service to replace.",
            width=8,
            height=10,
            unit="percentunit",
            decimals=1,
            maximum=1,
            steps=((None, "green"), (0.01, "orange"), (0.1, "red")),
        ),
        hourly(
            sql_panel(
                "bars",
                "breakers.transitions",
                id=13,
                title="Transitions",
                description="Per hour. Many half_opened and few closed: the service does not recover.",
                width=8,
                series={
                    "/^opened$/": color("red"),
                    "/^half_opened$/": color("orange"),
                    "/^closed$/": color("green"),
                },
            )
        ),
        sql_panel(
            "table",
            "breakers.transitions_latest",
            id=14,
            title="Latest transitions",
            description="The newest 100 within the range, and how long each state lasted. No ended_at: it is the "
            "present one.",
            width=16,
            columns={"agent": TO_PAYMENTS, "state": words(STATES), "seconds": unit("s")},
        ),
    ]


def _retries() -> list[Panel | Section]:
    common: dict[str, Any] = {"width": 8, "height": 8}
    panels = [
        sql_panel(
            "lines",
            "breakers.retry_rate",
            id=21,
            title="Retry rate",
            description="Retries of all attempts, by service. A service that stands out has trouble of its own.",
            unit="percentunit",
            **common,
        ),
        sql_panel(
            "lines",
            "breakers.retry_success",
            id=22,
            title="Success after retry",
            description="Retries that were answered, by service. Near zero: do not retry there.",
            unit="percentunit",
            **common,
        ),
        sql_panel(
            "bars",
            "breakers.backoff",
            id=23,
            title="Backoff",
            description="Time that attempts waited first. If it grows while the rate does not, shorten the backoff.",
            unit="ms",
            **common,
        ),
        sql_panel(
            "bars",
            "breakers.retry_cost breakers.avoided",
            id=24,
            title="Spent by retries, avoided by breakers",
            description="Up: settled for attempts after the first. Down: not spent while a breaker was open.",
            unit=TOKENS,
            width=12,
        ),
        sql_panel(
            "bars",
            "breakers.skipped",
            id=25,
            title="Skipped attempts",
            description="Attempts that open breakers held back, by service.",
            width=12,
        ),
    ]
    return [Section(id=20, title="Retries"), *(hourly(panel) for panel in panels)]


def _reasons() -> list[Panel | Section]:
    return [
        Section(id=30, title="Where and why"),
        sql_panel(
            "table",
            "breakers.retries_by_service",
            id=31,
            title="Retries by agent and service",
            description="The most retries first. Begin with the first line.",
            width=12,
            height=9,
            columns={
                "agent": TO_PAYMENTS,
                "service": TO_SERVICE,
                "retry_rate": (*unit("percentunit", 1), *steps(*RETRY_RATE)),
                "success_after_retry": (*unit("percentunit", 1), *steps(*SUCCESS)),
                "backoff_ms": unit("ms"),
            },
        ),
        sql_panel(
            "table",
            "breakers.causes",
            id=32,
            title="Why attempts do not succeed",
            description="Of the newest 1,000 within the range. insufficient_funds: top up; rejected or invalid_402: "
            "read the newest reason; timeout or upstream_error: ask the service.",
            width=12,
            height=9,
            columns={"agent": TO_PAYMENTS, "service": TO_SERVICE, "outcome": words(STATES)},
        ),
    ]
