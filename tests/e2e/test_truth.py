"""The truth: what Tollwatch shows is what the chain says, to the atomic unit, on every edition."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stack import Product, Rpc, listed, until

PURCHASES = 12
MINTS = {
    "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v": "USDC",
    "CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH": "CASH",
}


@pytest.fixture
def product(database_url, tmp_path):
    """Two honest agents buy, then stop."""
    with Product(database_url, tmp_path, "--pace", "4", "--purchases", str(PURCHASES)) as running:
        yield running


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


def test_balances_and_payments_equal_the_chain(product):
    rpc = Rpc(product.chain)
    with product.client() as http:
        books = until(lambda: finished(product), 90, "the agents have bought all they want")
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

        # Facts on /metrics are as old as their interval, and a scrape may find twice that.
        counted = until(lambda: counts(http, 2 * PURCHASES), 10, f"{2 * PURCHASES} settled payments are counted")
        assert {sample.labels["project"] for sample in counted} == {"sandbox"}
    rpc.close()


def counts(http, expected):
    """Series of settled payments once they add up to so many."""
    found = [
        sample
        for family in text_string_to_metric_families(http.get("/metrics").text)
        if family.name == "tollwatch_payments"
        for sample in family.samples
        if sample.labels["status"] == "settled"
    ]
    return found if sum(sample.value for sample in found) == expected else None


def finished(product):
    """The sandbox's books once every agent is done and every report was delivered."""
    books = product.books()
    agents = books["agents"]
    done = all(agent["payments"]["settled"] == PURCHASES and agent["reporter"]["pending"] == 0 for agent in agents)
    return books if done else None
