"""The page in a real browser, over the real product: what a person sees is what the API says, on every screen."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.api.world import address, audit, payment
from tests.e2e.stack import until

SCREENS = {
    "desktop-light": {"width": 1280, "height": 900},
    "desktop-dark": {"width": 1280, "height": 900, "scheme": "dark"},
    "phone-light": {"width": 390, "height": 844, "mobile": True},
    "phone-dark": {"width": 390, "height": 844, "mobile": True, "scheme": "dark"},
}
DECIMALS = {"SOL": 9, "USDC": 6, "CASH": 6}
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
WALLET = "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"

CARDS = "document.querySelectorAll('.card').length"
BALANCES = """[...document.querySelectorAll('.balances tbody tr')].map((row) =>
  [row.dataset.wallet, row.dataset.asset, row.querySelector('.amount .number').textContent])"""
# Every text against what is behind it, as WCAG 2 counts contrast.
PALE = """(() => {
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
  };
  const pale = new Set();
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node instanceof SVGElement) continue;
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) pale.add(`${node.tagName}.${node.className} ${contrast.toFixed(2)}`);
  }
  return [...pale];
})()"""


def whole(amount, decimals):
    """Whole tokens as the page writes them, reckoned with Decimal."""
    text = f"{Decimal(f'{amount}e-{decimals}'):,f}"
    integer, _, fraction = text.partition(".")
    return f"{integer}.{fraction.rstrip('0').ljust(2, '0')}"


def shots(tmp_path):
    """Where pictures go: TOLLWATCH_TEST_SCREENSHOTS, to look at them."""
    folder = Path(os.environ.get("TOLLWATCH_TEST_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def tab(browser, product):
    """The page on a desktop, with its cards drawn."""
    with browser.tab() as opened:
        opened.open(product.base)
        opened.until(CARDS)
        yield opened


@pytest.mark.parametrize("screen", SCREENS)
def test_every_balance_is_the_api_s_on_every_screen(browser, product, tmp_path, screen):
    with browser.tab(**SCREENS[screen]) as tab:
        tab.open(product.base)
        tab.until(CARDS)
        wanted = {(item["wallet"], item["asset"]) for item in product.ask("/v1/balances")}
        agreed = set()

        def all_agree():
            told = {
                (i["wallet"], i["asset"]): whole(i["amount"], DECIMALS[i["asset"]]) for i in product.ask("/v1/balances")
            }
            shown = {(wallet, asset): number for wallet, asset, number in tab.run(BALANCES)}
            assert shown.keys() == told.keys()
            # Money moves all the time: each figure has to be equal at some instant.
            agreed.update(key for key, number in shown.items() if told[key] == number)
            return agreed == wanted

        until(all_agree, 40, f"the page shows what /v1/balances says; so far {agreed}")
        assert tab.run("document.title") == "Tollwatch (sandbox)"
        assert "no real money" in tab.text(".sandbox")
        width, seen = tab.run("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= seen == SCREENS[screen]["width"]
        assert tab.run(PALE) == []
        tab.until("document.getElementById('pulse-text').textContent === 'live'")
        tab.screenshot(shots(tmp_path) / f"{screen}.png")
        tab.screenshot(shots(tmp_path) / f"{screen}-whole.png", whole=True)
        assert tab.complaints() == []
        assert tab.hosts() == {product.base.removeprefix("http://")}
        assert any(url.endswith("/v1/stream?") or "/v1/stream" in url for url in tab.requests())


def test_figures_hours_and_spend_are_what_the_api_answered(tab):
    def spent():
        found = {}
        for row in tab.answered("/v1/payments/hourly", "group_by=asset"):
            if row["status"] == "settled":
                found[row["asset"]] = found.get(row["asset"], 0) + int(row["amount"])
        shown = tab.text("#figures > div:first-child dd").split("\n")
        told = {line.split()[1]: line.split()[0] for line in shown if line}
        return told == {asset: whole(amount, DECIMALS[asset]) for asset, amount in found.items()}

    def bought():
        paid, cost = {}, {}
        for row in tab.answered("/v1/spend"):
            key = (row["service"], row["asset"])
            paid[key] = paid.get(key, 0) + row["payments"]
            cost[key] = cost.get(key, 0) + int(row["amount"])
        rows = tab.run(
            "[...document.querySelectorAll('.spend tbody tr')].map(({ children: [name, count, sum] }) => [name.title,"
            " sum.lastChild.textContent, count.textContent, sum.firstChild.textContent])"
        )
        return {(service, asset): (count.replace(",", ""), amount) for service, asset, count, amount in rows} == {
            key: (str(paid[key]), whole(cost[key], DECIMALS[key[1]])) for key in paid
        }

    def counted():
        settled = sum(
            r["payments"] for r in tab.answered("/v1/payments/hourly", "group_by=asset") if r["status"] == "settled"
        )
        return tab.text(".legend li:first-child .number").replace(",", "") == str(settled)

    for agree in (spent, bought, counted):
        until(agree, 30, agree.__name__)
    assert tab.run("document.querySelectorAll('.bars g').length") == 24
    assert tab.run("document.querySelectorAll('.audit li').length") > 0
    tab.run("document.querySelector('summary').click()")
    assert "settled" in tab.text("#hours-table")


def test_it_refreshes_by_itself(product, tab):
    before = tab.text("#figures")
    until(lambda: tab.text("#figures") != before, 30, "the figures move")
    assert tab.complaints() == []


def test_times_are_relative_and_absolute(tab):
    shown, told = tab.run("[document.querySelector('.audit time')].map((t) => [t.textContent, t.title])[0]")
    assert shown == "now" or shown.endswith("ago")
    assert told.endswith("UTC")
    assert len(told) == len("2026-11-03 09:30:00 UTC")


def test_money_is_exact_and_never_a_float(tab):
    cases = [
        ("0", 6), ("1", 6), ("999999", 6), ("1000000", 6), ("1234567", 6), ("2500000", 6), ("100", 0), ("1", 9),
        ("9007199254740993", 6), ("9223372036854775807", 6), ("123456789012345678901234567890", 18), ("50", 1),
    ]  # fmt: skip
    for amount, decimals in cases:
        shown = tab.run(f"import('/page/money.js').then((m) => m.whole('{amount}', {decimals}))")
        assert Decimal(shown.replace(",", "")) == Decimal(f"{amount}e-{decimals}")
        if decimals > 1:
            assert shown == whole(amount, decimals)
    module = "import('/page/money.js').then((m) =>"
    assert tab.run(f"{module} m.total(['9223372036854775807', '9223372036854775807', '1']))") == str(2**64 - 1)
    assert tab.run(f"{module} m.average('10', 4))") == "3"
    assert tab.run(f"{module} m.average('0', 0))") == "0"
    unknown = "{asset: 'EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v', network: 'solana:x'}"
    assert tab.run(f"{module} m.tokens('1234567', {unknown}) + ' ' + m.unit({unknown}))") == (
        "1,234,567 atomic units of EPjFW…Dt1v"
    )
    assert tab.run(f"{module} m.tokens('1234567', {{asset: 'X', decimals: 2}}))") == "12,345.67"


def test_the_keyboard_reaches_what_can_be_used(tab):
    tab.press("Tab", 9)
    assert tab.run("document.activeElement.className") == "skip"
    tab.press("Enter", 13)
    tab.until("document.activeElement?.id === 'agents'")
    names = tab.run(
        "[...document.querySelectorAll('a, button, summary, input')].filter((n) => n.checkVisibility()).map((n) => n.innerText)"
    )
    assert all(names)
    unnamed = tab.run(
        "[...document.querySelectorAll('svg[role=img]')].filter((n) => !n.getAttribute('aria-label')).length"
    )
    assert unnamed == 0


def test_an_outage_is_told_and_ends(product, tab):
    problem = {"status": 503, "code": "database_unavailable", "detail": "the database does not answer in time"}
    tab.answer(all=(503, problem))
    tab.until("document.getElementById('trouble').checkVisibility()")
    assert "The database does not answer." in tab.text("#trouble")
    assert "What is below is of" in tab.text("#trouble")
    assert tab.run(CARDS) > 0
    tab.answer()
    tab.until("!document.getElementById('trouble').checkVisibility()")
    tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    tab.until("document.getElementById('trouble').checkVisibility()")
    assert "Tollwatch does not answer." in tab.text("#trouble")
    tab.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.until("!document.getElementById('trouble').checkVisibility()")


def test_a_long_history_is_drawn_by_the_hour(browser, product, tmp_path):
    """Hours that the sandbox has not lived yet: the API's answers for them are made here, from its own of this hour."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    starts = [(hour - timedelta(hours=age)).strftime("%Y-%m-%dT%H:%M:%S.000Z") for age in range(24)]
    balances = []
    for item in product.ask("/v1/balances/history", bucket="1h", limit=100):
        end = int(item["amount_last"])
        for age, bucket in enumerate(starts):
            first, last = (end * (100 + 7 * (2 * age % 9)) // 100 for age in (age + 1, age))
            most, least = max(first, last) * 11 // 10, min(first, last) * 9 // 10
            made = {"amount_first": first, "amount_last": last, "amount_min": least, "amount_max": most}
            balances.append(item | {"bucket": bucket} | {name: str(amount) for name, amount in made.items()})
    group = {"asset": "USDC", "network": balances[0]["network"], "amount": "1000"}
    hours = [
        group | {"bucket": bucket, "status": status, "payments": 1 + (age * 37) % 90 // share, "agent": "scout"}
        for age, bucket in enumerate(starts)
        for status, share in (("settled", 1), ("retrying", 12), ("unknown", 9), ("failed", 20), ("reverted", 50))
    ]
    with browser.tab() as tab:
        answers = {"history": balances, "hourly": hours}
        tab.answer(**{name: (200, {"items": items, "next": None}) for name, items in answers.items()})
        tab.open(product.base)
        tab.until(CARDS)
        drawn = tab.run("[...document.querySelectorAll('.spark')].map((s) => s.querySelectorAll('.band').length)")
        assert drawn
        assert set(drawn) == {24}
        assert tab.text(".balances thead th:nth-child(4)").split("\n")[0] == "last 23 h"
        bars = tab.run(
            "[...document.querySelectorAll('.bars g')].map((g) => g.querySelectorAll('rect:not(.column)').length)"
        )
        assert len(bars) == 24
        assert set(bars) == {5}
        tab.screenshot(shots(tmp_path) / "long-history.png")
        assert tab.complaints() == []


def test_without_the_stream_it_polls_and_tells_of_late_samples(browser, product):
    balances = product.ask("/v1/balances")
    agent = balances[0]["agent"]
    late = {"ts": "2026-01-01T00:00:00.000Z", "amount": "1234567", "status": "low"}
    with browser.tab() as tab:
        told = [item | late if item["agent"] == agent else item for item in balances]
        other = {"network": balances[0]["network"], "wallet": WALLET, "asset": balances[0]["asset"]}
        told.append(balances[0] | late | other)
        tab.answer(balances=(200, {"items": told, "next": None}), stream=(404, {"detail": "none"}))
        tab.open(product.base)
        tab.until(CARDS)
        tab.until("document.getElementById('pulse-text').textContent === 'every 5 s'")
        card = f"#agent-{agent}"
        assert tab.text(f"{card} .sampled.late").startswith("sampled ")
        assert tab.text(f"{card} .sampled.late").endswith(" d ago")
        assert tab.text(f"{card} header .chip").startswith("low")
        # Two wallets: each row says whose it is.
        assert "9xQeW…VFin" in tab.text(f"{card} tbody th small")
        assert tab.run("document.querySelectorAll('.sampled.late').length") == 1
        before = len([url for url in tab.requests() if "/v1/balances?" in url])
        until(lambda: len([url for url in tab.requests() if "/v1/balances?" in url]) > before, 20, "it asks again")


def test_a_name_is_text_whatever_it_is(browser, product):
    agent = product.ask("/v1/agents")[0] | {"agent": HOSTILE}
    with browser.tab() as tab:
        tab.answer(agents=(200, {"items": [agent], "next": None}), payments=(200, {"items": [], "next": None}))
        tab.open(product.base)
        tab.until(CARDS)
        assert tab.text(".card h3") == HOSTILE
        assert tab.run("document.querySelectorAll('.card script, .card img').length") == 0
        assert tab.run("document.title") == "Tollwatch (sandbox)"
        assert tab.complaints() == []


def test_from_elsewhere_it_asks_for_a_key_and_shows_that_project(browser, product, tmp_path):
    key = product.make_key("elsewhere", "ingest,read,admin")
    with browser.tab(**SCREENS["phone-light"]) as tab:
        tab.open(product.elsewhere)
        tab.until("document.activeElement?.id === 'key'")
        assert not tab.run("document.getElementById('content').checkVisibility()")
        assert tab.complaints() == []
        tab.screenshot(shots(tmp_path) / "key.png")
        tab.type("tollwatch-dev")
        tab.press("Enter", 13)
        tab.until("document.getElementById('key-refused')?.textContent")
        assert "loopback" in tab.text("#key-refused")
        tab.until("document.activeElement?.id === 'key'")
        assert tab.run("sessionStorage.length") == 0

        tab.type(key)
        tab.press("Enter", 13)
        tab.until("document.getElementById('agent-cards').textContent.includes('No agents yet')")
        assert "PUT /v1/agents/{name}" in tab.text("#agent-cards")
        assert "No payments in 24 h" in tab.text("#hours")
        assert "key created" in tab.text("#audit")  # its own
        tab.screenshot(shots(tmp_path) / "empty.png")
        assert tab.run("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]

        fill(product.base, key)
        tab.until("!!document.querySelector('.audit') && !!document.querySelector('.spend')")
        tab.until(CARDS)
        assert HOSTILE in tab.text(".audit")
        assert HOSTILE in tab.text(".spend")
        assert tab.run("document.querySelectorAll('#content script, #content img').length") == 0
        assert tab.run("document.title") == "Tollwatch (sandbox)"
        assert tab.run("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        assert tab.hosts() == {product.elsewhere.removeprefix("http://")}
        tab.screenshot(shots(tmp_path) / "hostile.png")

        tab.run("document.getElementById('forget').click()")
        tab.until("document.activeElement?.id === 'key'")
        assert tab.run("sessionStorage.length") == 0
        assert "owned" not in tab.run("document.body.textContent")


def fill(base, key):
    """An agent with the longest of names, and hostile text wherever the API takes text."""
    name = "a" * 100
    service = "https://market.example.com"
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False) as client:
        endpoints = [{"name": HOSTILE, "url": service, "priority": 1}]
        client.put(f"/v1/agents/{name}", json={"api_endpoints": endpoints}).raise_for_status()
        client.put(f"/v1/agents/{name}/wallets/{WALLET}", json={}).raise_for_status()
        events = [
            payment(agent=name, wallet=WALLET, service=service, payment_id=str(uuid.uuid4())),
            payment(agent=name, wallet=WALLET, service=service, asset=address(), amount="7"),
            audit(agent=name, component=HOSTILE, details={"said": HOSTILE, HOSTILE: 1}),
        ]
        answer = client.post("/v1/events", json=events).raise_for_status().json()
        assert (answer["accepted"], answer["rejected"]) == (3, []), answer
