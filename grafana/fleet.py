"""*Fleet*: who has money, for how long, and who cannot go on."""

from __future__ import annotations

from typing import Any

from grafana.boards import AGENT, ASSET, NETWORK, Board
from grafana.looks import SEVERITIES, STATES, TOKENS, color, dashed, link, steps, unit, width, words
from grafana.panels import Panel, Section, hourly, sql_panel
from grafana.sdk import POSTGRES

NONE_IS_GOOD = ((None, "green"), (1, "orange"))
RUNWAY = ((None, "red"), (1, "orange"), (6, "green"))
"""Hours; the alert on short runways has the same limits."""
TO_PAYMENTS = link("What it pays", "tollwatch-payments", "agent")
TO_BREAKERS = link("Its breakers", "tollwatch-breakers", "component")


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="tollwatch-fleet",
        title="Fleet",
        description="Balances against thresholds, runway, who is paused or low, and what happened last.",
        plugin=POSTGRES,
        since="6h",
        refresh="30s",
        variables=(NETWORK, AGENT, ASSET),
        items=[*_now(), *_money(), *_work(), *_events()],
    )


def _now() -> list[Panel]:
    common: dict[str, Any] = {"width": 4, "height": 4}
    return [
        sql_panel(
            "stat",
            "fleet.low_wallets",
            id=1,
            title="Low or paused balances",
            description="Balances below their threshold, or that an agent paused on. Top up those listed under 'Who "
            "cannot go on'.",
            steps=((None, "green"), (1, "red")),
            **common,
        ),
        sql_panel(
            "stat",
            "fleet.shortest_runway",
            id=2,
            title="Shortest runway",
            description="Until the first wallet is empty at its rate of the last 24 h. Below 6 h plan a top-up, below "
            "1 h do it now.",
            unit="h",
            decimals=1,
            steps=RUNWAY,
            **common,
        ),
        sql_panel(
            "stat",
            "fleet.paused_agents",
            id=3,
            title="Paused agents",
            description="Agents that said so within the range and did not resume. Find out why below, then resume "
            "them.",
            steps=NONE_IS_GOOD,
            **common,
        ),
        sql_panel(
            "stat",
            "fleet.open_breakers",
            id=4,
            title="Breakers not closed",
            description="Calls are held back there. The dashboard 'Circuit breakers and retries' says since when and "
            "why.",
            steps=NONE_IS_GOOD,
            **common,
        ),
        sql_panel(
            "stat",
            "fleet.waiting",
            id=5,
            title="Requests waiting",
            description="Put off for want of money, for an open breaker or for a node. If it grows, remove that "
            "reason.",
            steps=NONE_IS_GOOD,
            **common,
        ),
        sql_panel(
            "stat",
            "fleet.spent",
            id=6,
            title="Settled",
            description="Money that settled in the hours that begin within the range, per asset.",
            unit=TOKENS,
            **common,
        ),
    ]


def _money() -> list[Panel | Section]:
    return [
        Section(id=10, title="Money"),
        sql_panel(
            "lines",
            "fleet.balances fleet.thresholds",
            id=11,
            title="Balances against thresholds",
            description="Whole tokens. Dashed: the threshold in force. Top up before a line meets its own dashes. "
            "Ranges over twelve hours show the last balance of each hour.",
            width=16,
            height=10,
            unit=TOKENS,
            series={"/^threshold /": dashed("red")},
        ),
        sql_panel(
            "gauge",
            "fleet.headroom",
            id=12,
            title="Balance as a multiple of its threshold",
            description="1 is the threshold. The lowest come first: top those up.",
            width=8,
            height=10,
            unit="suffix: ×",
            decimals=2,
            steps=((None, "red"), (1, "orange"), (2, "green")),
        ),
        sql_panel(
            "table",
            "fleet.runway",
            id=13,
            title="Balances and runway",
            description="Hours that each balance lasts at its rate of the last 24 h; empty: nothing flows out. An old "
            "sampled_at means that the collector does not reach this wallet.",
            width=24,
            columns={
                "agent": TO_PAYMENTS,
                "wallet": width(120),
                "status": words(STATES),
                "tokens": unit(TOKENS),
                "threshold_tokens": unit(TOKENS),
                "burn_tokens_per_hour": unit("suffix: tokens/h"),
                "runway_hours": (*unit("h", 1), *steps(*RUNWAY)),
                "observed_hours": unit("h", 1),
            },
        ),
        sql_panel(
            "table",
            "fleet.low_or_paused",
            id=14,
            title="Who cannot go on",
            description="Balances below their threshold and agents that paused. missing_tokens is the least to top up "
            "by.",
            width=12,
            columns={"agent": TO_PAYMENTS, "state": words(STATES), "missing_tokens": unit(TOKENS)},
        ),
        hourly(
            sql_panel(
                "bars",
                "fleet.flows",
                id=15,
                title="Money in and out",
                description="Per hour, between samples. Money out that no payment explains is a reason to look at the "
                "wallet's keys.",
                width=12,
                unit=TOKENS,
            )
        ),
    ]


def _work() -> list[Panel | Section]:
    return [
        Section(id=20, title="Work"),
        sql_panel(
            "bars",
            "fleet.queue_moves",
            id=21,
            title="Requests put off, taken up, given up",
            description="More queued than processed: the backlog grows. Dropped requests are answers that nobody got.",
            width=8,
            interval="1m",
            series={"/^dropped$/": color("red"), "/^processed$/": color("green"), "/^queued$/": color("orange")},
        ),
        sql_panel(
            "table",
            "fleet.waiting_requests",
            id=22,
            title="Requests that wait",
            description="The most urgent first. reason funds: top up; breaker: see its dashboard; rpc: look at the "
            "nodes.",
            width=8,
            columns={"agent": TO_PAYMENTS, "waiting_s": unit("s", 0), "request_id": width(120)},
        ),
        sql_panel(
            "table",
            "fleet.sessions",
            id=23,
            title="Wallet sessions",
            description="100 of them: the active ones first, of those the ones that expire first. tx_used is what the "
            "agent says, tx_settled what was seen. If tx_settled is above tx_used, revoke the session.",
            width=8,
            columns={
                "agent": TO_PAYMENTS,
                "status": words(STATES),
                "used": (*unit("percentunit", 0), *steps((None, "green"), (0.8, "orange"), (1, "red"))),
                "session_id": width(120),
                "wallet": width(120),
            },
        ),
    ]


def _events() -> list[Panel | Section]:
    series = {f"/^{severity}$/": color(shade) for severity, shade in SEVERITIES.items()}
    return [
        Section(id=30, title="Events"),
        hourly(
            sql_panel(
                "bars",
                "fleet.audit_severities",
                id=31,
                title="Audit events by severity",
                description="Per hour. Read the errors and the critical ones in the list beside.",
                width=8,
                height=10,
                series=series,
            )
        ),
        sql_panel(
            "table",
            "fleet.audit_latest",
            id=32,
            title="Latest audit events",
            description="The newest 100 within the range. Resolve what has been dealt with: POST "
            "/v1/audit-events/{id}/resolution.",
            width=16,
            height=10,
            columns={
                "agent": TO_PAYMENTS,
                "severity": (*words(SEVERITIES), *width(80)),
                "component": TO_BREAKERS,
                "request_id": width(120),
            },
        ),
    ]
