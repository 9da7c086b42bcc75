"""The five stories, told over HTTP, are in Tollwatch as they happened: compared with the sandbox's own books."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.e2e.stack import Product, Rpc, listed, until

STATES = {"breaker_opened": "open", "breaker_half_opened": "half_open", "breaker_closed": "closed"}
IN_ORDER = ["low_balance", "paused", "queued", "top_up_requested", "topped_up", "resumed", "processed"]


@pytest.fixture
def product(database_url, tmp_path):
    """Every story, twenty times as fast, one full cycle each."""
    with Product(database_url, tmp_path, "--speed", "20", "--cycles", "1") as running:
        yield running


def told(product):
    """The books by agent, once every story has ended and every report was delivered."""
    agents = {agent["name"]: agent for agent in product.books()["agents"]}
    over = all(agent["ended"] and agent["reporter"]["pending"] == 0 for agent in agents.values())
    return agents if over else None


def test_what_happened_is_what_is_shown(product):
    agents = until(lambda: told(product), 120, "the stories have been told")
    rpc = Rpc(product.chain)
    with product.client() as http:
        for name, agent in agents.items():
            assert not agent["reporter"]["rejected"], (name, agent["reporter"])
            assert not agent["reporter"]["dropped"], name
        check_breakers(http, agents["flaky"])
        check_poor(http, agents["poor"])
        check_cheated(http, rpc, agents["cheated"])
        check_liar(http, rpc, agents["liar"])
        check_settled(http, agents)
        check_sessions(http, agents)
    rpc.close()


def check_breakers(http, flaky):
    """Every transition that flaky made, and no other."""
    made = [(item["component"], item["state"], item["event_id"]) for item in flaky["breaker"]["items"]]
    shown = listed(http, "/v1/breakers", history="true")
    assert {item["agent"] for item in shown} == {"flaky"}
    shown.sort(key=lambda item: (item["started_at"], item["event_id"]))
    assert [(item["component"], item["state"], item["event_id"]) for item in shown] == made
    present = {item["component"]: item["state"] for item in listed(http, "/v1/breakers")}
    assert present == {component: state for component, state, _ in made}


def check_poor(http, poor):
    """Its moments stand in order in the audit trail and the audit feed."""
    trail = listed(http, "/v1/audit-trail", agent="poor")
    trail.sort(key=lambda item: (item["ts"], item["id"]))
    line = [item["what"] for item in trail if item["kind"] != "request"]
    places = [line.index(what) for what in IN_ORDER]
    assert places == sorted(places), line
    told_events = [item["event_id"] for item in poor["moments"]["items"] if item["event_id"] is not None]
    feed = listed(http, "/v1/audit-events", agent="poor")
    feed.sort(key=lambda item: (item["ts"], item["id"]))
    assert [item["id"] for item in feed if item["event_type"] != "low_balance"] == told_events
    assert Counter(item["event_type"] for item in feed)["low_balance"] >= 1
    queue = {item["id"]: item["state"] for item in listed(http, "/v1/queue", history="true", agent="poor")}
    assert queue == {item["event_id"]: item["state"] for item in poor["queue"]["items"]}


def check_cheated(http, rpc, cheated):
    """Its payments are unknown and in no settled figure, though the chain moved the money."""
    for lost in cheated["unknown_payments"]["items"]:
        payment = http.get(f"/v1/payments/{lost['payment_id']}").raise_for_status().json()
        assert payment["status"] == "unknown"
        assert rpc("getSignatureStatuses", [lost["signature"]])["value"][0]["err"] is None
    lost_ids = {lost["payment_id"] for lost in cheated["unknown_payments"]["items"]}
    settled = {item["payment_id"] for item in listed(http, "/v1/payments", agent="cheated", status="settled")}
    assert not settled & lost_ids


def check_liar(http, rpc, liar):
    """A claim is visible as a claim, and the chain does not know it."""
    false = liar["false_payments"]["items"]
    claims = {item["payment_id"]: item for item in listed(http, "/v1/payments", agent="liar", status="settled")}
    for lie in false:
        assert claims[lie["payment_id"]]["origin"] == "agent"
        assert rpc("getTransaction", lie["signature"], {"maxSupportedTransactionVersion": 0}) is None
    assert not listed(http, "/v1/payments", agent="liar", status="settled", origin="chain")


def check_settled(http, agents):
    """Settled payments and their hourly counts are those of the books, agent by agent."""
    hourly = Counter()
    for item in listed(http, "/v1/payments/hourly", status="settled", group_by="agent"):
        hourly[item["agent"]] += item["payments"]
    for name, agent in agents.items():
        told_ids = [one["payment_id"] for one in agent["settled_payments"]["items"] + agent["false_payments"]["items"]]
        shown = [item["payment_id"] for item in listed(http, "/v1/payments", agent=name, status="settled")]
        assert Counter(shown) == Counter(told_ids), name
        assert hourly[name] == len(told_ids), name


def check_sessions(http, agents):
    """Every session, with what its agent used of it."""
    shown = {item["session_id"]: item["tx_used"] for item in listed(http, "/v1/sessions")}
    for agent in agents.values():
        for session in agent["sessions"]["items"]:
            assert session["id"] in shown
