"""The truth: what Tollwatch shows is what the chain says, to the atomic unit, on every edition."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from store.deadlines import Deadlines
from store.settings import Settings
from store.startup import prepare_sandbox
from tests.e2e.stack import DEV_KEY, Process, Rpc, free_ports, status_of, until

PURCHASES = 12
MINTS = {
    "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v": "USDC",
    "CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH": "CASH",
}


@pytest.fixture
def stack(database_url, tmp_path):
    """Sandbox, API and collector on the test's own database; two agents buy, then stop."""
    api, chain = free_ports(2), free_ports(4)
    common = {
        "TOLLWATCH_DATABASE_URL": database_url,
        "TOLLWATCH_PORT": str(api),
        "TOLLWATCH_COLLECTOR_PORT": str(api + 1),
        "TOLLWATCH_SANDBOX": "true",
        "TOLLWATCH_RPC_URLS": f"http://127.0.0.1:{chain}",
        "TOLLWATCH_SAMPLE_INTERVAL": "1s",
        "TOLLWATCH_HOME": str(tmp_path),
    }
    asyncio.run(prepare_sandbox(Settings(database_url=database_url, sandbox=True), Deadlines()))
    started = [
        Process(
            "sandbox",
            [
                "sandbox",
                "--port",
                str(chain),
                "--pace",
                "4",
                "--purchases",
                str(PURCHASES),
                "--tollwatch-url",
                f"http://127.0.0.1:{api}",
            ],
            tmp_path,
        ),
        Process("api", ["cli", "api"], tmp_path, **common),
        Process("collector", ["cli", "collector"], tmp_path, **common),
    ]
    base = f"http://127.0.0.1:{api}"
    try:
        until(lambda: status_of(f"{base}/readyz") == 200, 60, "the API is ready")
        yield base, f"http://127.0.0.1:{chain}"
    finally:
        codes = [process.stop() for process in started]
        assert codes == [0, 0, 0], [process.text()[-1000:] for process in started]


def chain_transfers(rpc, wallet, seller):
    """(signature, asset, amount) of every successful token transfer from wallet to seller, from balance deltas."""
    found = []
    for entry in rpc("getSignaturesForAddress", wallet, {"limit": 1000, "commitment": "confirmed"}):
        if entry["err"] is not None:
            continue
        told = rpc(
            "getTransaction",
            entry["signature"],
            {"encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": 0},
        )
        assert told["meta"]["err"] is None
        deltas = Counter()
        for sign, side in ((-1, "preTokenBalances"), (1, "postTokenBalances")):
            for balance in told["meta"][side]:
                deltas[balance["owner"], balance["mint"]] += sign * int(balance["uiTokenAmount"]["amount"])
        for mint, asset in MINTS.items():
            if deltas[seller, mint] > 0 and deltas[wallet, mint] == -deltas[seller, mint]:
                found.append((entry["signature"], asset, deltas[seller, mint]))
    return found


def listed(http, path, **params):
    """All items of a list, page by page."""
    items = []
    while True:
        answer = http.get(path, params=params).raise_for_status().json()
        items += answer["items"]
        if answer["next"] is None:
            return items
        params["cursor"] = answer["next"]


def gauges(http, name):
    """{(wallet, asset): value} of one family of /metrics."""
    families = text_string_to_metric_families(http.get("/metrics").raise_for_status().text)
    return {
        (sample.labels["wallet"], sample.labels["asset"]): Decimal(repr(sample.value))
        for family in families
        if family.name == name
        for sample in family.samples
    }


def chain_balances(rpc, wallets):
    """{(wallet, asset): whole tokens} as the chain answers now."""
    found = {}
    for wallet in wallets:
        lamports = rpc("getBalance", wallet, {"commitment": "confirmed"})["value"]
        found[wallet, "SOL"] = Decimal(lamports).scaleb(-9)
        for mint, asset in MINTS.items():
            accounts = rpc(
                "getTokenAccountsByOwner", wallet, {"mint": mint}, {"encoding": "jsonParsed", "commitment": "confirmed"}
            )
            amounts = [int(a["account"]["data"]["parsed"]["info"]["tokenAmount"]["amount"]) for a in accounts["value"]]
            found[wallet, asset] = Decimal(sum(amounts)).scaleb(-6)
    return found


def test_balances_and_payments_equal_the_chain(stack):
    base, chain = stack
    rpc = Rpc(chain)
    with httpx.Client(base_url=base, headers=DEV_KEY, timeout=10, trust_env=False) as http:
        books = until(lambda: finished(chain), 90, "the agents have bought all they want")
        wallets = {agent["name"]: agent["wallet"] for agent in books["agents"]}
        assert set(wallets) == {"scout", "oracle"}

        # Balances: within one sampling interval (1 s here, and a slot of commitment lag).
        truth = chain_balances(rpc, wallets.values())
        until(lambda: gauges(http, "tollwatch_wallet_balance") == truth, 10, f"balances equal {truth}")
        shown = {(item["wallet"], item["asset"]): int(item["amount"]) for item in listed(http, "/v1/balances")}
        scale = {"SOL": 9, "USDC": 6, "CASH": 6}
        assert {key: Decimal(amount).scaleb(-scale[key[1]]) for key, amount in shown.items()} == truth

        # Payments: each settled payment is one transfer on the chain, and the other way round.
        transfers = {name: chain_transfers(rpc, wallet, books["seller"]) for name, wallet in wallets.items()}
        settled = listed(http, "/v1/payments", status="settled", limit=7)
        assert Counter((p["agent"], p["signature"], p["asset"], int(p["amount"])) for p in settled) == Counter(
            (name, *transfer) for name, made in transfers.items() for transfer in made
        )
        assert len(settled) == 2 * PURCHASES

        hourly = listed(http, "/v1/payments/hourly", status="settled", group_by="agent,asset")
        sums = Counter()
        for item in hourly:
            sums[item["agent"], item["asset"]] += int(item["amount"])
        expected = Counter()
        for name, made in transfers.items():
            for _, asset, amount in made:
                expected[name, asset] += amount
        assert sums == expected

        counted = [
            sample
            for family in text_string_to_metric_families(http.get("/metrics").text)
            if family.name == "tollwatch_payments"
            for sample in family.samples
            if sample.labels["status"] == "settled"
        ]
        assert sum(sample.value for sample in counted) == 2 * PURCHASES
        assert {sample.labels["project"] for sample in counted} == {"sandbox"}
    rpc.close()


def finished(chain):
    """The sandbox's books once every agent is done and every report was delivered."""
    books = httpx.get(f"{chain}/books", timeout=5, trust_env=False).json()
    agents = books["agents"]
    done = all(agent["payments"]["settled"] == PURCHASES and agent["reporter"]["pending"] == 0 for agent in agents)
    return books if done else None
