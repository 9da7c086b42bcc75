"""What the exporter writes is what prometheus_client would, and only what changed is written again."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from api.exporter_families import FAMILIES
from api.exporter_text import FactText
from api.exporter_values import Histogram
from store.metrics_snapshot import (
    Asset,
    AuditTotal,
    Balance,
    Breaker,
    Latency,
    OpenPayments,
    PaymentTotal,
    Queue,
    RequestTotal,
    Snapshot,
)
from tests.api.test_exporter_tools import parsed

NASTY = ('a"b', "back\\slash", "new\nline", '\\"', "é ☃", "{},=", "%s %(x)s", "")


class Collected(Collector):
    """The same families by prometheus_client's own objects."""

    def __init__(self, snapshot):
        self.snapshot = snapshot

    def collect(self):
        for family in FAMILIES:
            metric = family.empty()
            for labels, value in family.series(family.rows(self.snapshot)):
                if isinstance(value, Histogram):
                    metric.add_metric(labels, value.buckets, value.total)
                else:
                    metric.add_metric(labels, value)
            yield metric


def snapshot_of(rng):
    asset = Asset("solana:x", "USDC", 6, None)

    def who(number):
        return (f"p{number}", rng.choice(NASTY), "solana:x")

    many = range(12)
    told = {
        "balances": [
            Balance(
                *who(n),
                "w",
                asset,
                rng.randrange(2**63),
                None,
                datetime.now(UTC),
                rng.choice((None, rng.random() * 1e9)),
            )
            for n in many
        ],
        "payments": [
            PaymentTotal(*who(n)[:2], asset, "settled", "agent", rng.randrange(9**9), 10**n * 7) for n in many
        ],
        "requests": [RequestTotal(*who(n), rng.choice(NASTY), "ok", rng.randrange(99), 3, 5) for n in many],
        "services": [RequestTotal(*who(n), rng.choice(NASTY), None, 9, rng.randrange(99), 5) for n in many],
        "latencies": [Latency(*who(n), "s", {rng.randrange(-1, 120): n + 1, 7: 2**60}, 10**n + 1) for n in many],
        "breakers": [Breaker(*who(n), rng.choice(NASTY), "open") for n in many],
        "transitions": [AuditTotal(*who(n), "breaker_opened", None, rng.choice(NASTY), 4) for n in many],
        "audit": [AuditTotal(*who(n), rng.choice(NASTY), "info", None, 4) for n in many],
        "queues": [Queue(*who(n), n) for n in many],
        "open_payments": [OpenPayments(*who(n), "pending", n) for n in many],
    }
    found = dict.fromkeys([*told, "latency"], len(many))
    return Snapshot(**told, found=found, lags={})


def test_it_says_what_prometheus_client_says():
    for seed in range(5):
        snapshot = snapshot_of(random.Random(seed))
        registry = CollectorRegistry()
        registry.register(Collected(snapshot))
        written = b"".join(FactText(10_000).write(snapshot)).decode()
        told = parsed(written)
        facts = {key: float(value) for key, value in told.items() if not key[0].startswith("tollwatch_exporter_")}
        assert facts == parsed(generate_latest(registry).decode())
        comments = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("# ")]
        assert set(comments) <= {line for line in written.splitlines() if line.startswith("# ")}
        assert {value for (name, _), value in told.items() if name == "tollwatch_exporter_series_dropped"} <= {
            0.0,
            12.0,
        }


def test_only_what_changed_is_written_again():
    text = FactText(10_000)
    first = snapshot_of(random.Random(1))
    before = text.write(first)
    after = text.write(replace(first, queues=[row._replace(waiting=row.waiting + 1) for row in first.queues]))
    changed = [new for old, new in zip(before[:-1], after[:-1], strict=True) if new is not old]
    assert len(changed) == 1
    assert changed[0].startswith(b"# HELP tollwatch_queue_depth ")


def test_what_is_held_is_looked_at_again_though_its_rows_are_the_same():
    now = [0.0]
    text = FactText(10_000)
    for written in text._written.values():
        written.floors._clock = lambda: now[0]
    high = snapshot_of(random.Random(1))
    low = replace(high, payments=[row._replace(payments=row.payments // 2) for row in high.payments])

    def told(snapshot):
        found = parsed(b"".join(text.write(snapshot)).decode())
        return sum(value for (name, _), value in found.items() if name == "tollwatch_payments_total")

    everything = sum(row.payments for row in high.payments)
    assert told(high) == told(low) == everything
    now[0] = 100.0
    assert told(low) == everything
    now[0] = 121.0
    assert told(low) == sum(row.payments for row in low.payments)
