"""What the database must hold after any history: heads, rollups and totals computed in Python, from the facts alone.

Nothing here is shared with the code under test but the facts and the words.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from store.facts import Facts
from store.identity import derived_uuid7
from tests.store.world import audit

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BITS = {"unknown": 1, "pending": 2, "retrying": 4, "verified": 8, "failed": 16, "settled": 32, "reverted": 64}
ORIGIN = {"chain": 3, "facilitator": 2, "agent": 1, "collector": 0, "import": 0}
FINAL = {"reverted": 3, "settled": 2, "failed": 1}
OPEN = {"unknown": 4, "verified": 3, "retrying": 2, "pending": 1}
THRESHOLD = 10_000  # 0.01 of six decimals: what an agent has unless it says otherwise
BREAKERS = {"breaker_opened": "open", "breaker_half_opened": "half_open", "breaker_closed": "closed"}


def rank(status, origin):
    if status in FINAL:
        return 100 + 10 * ORIGIN[origin] + FINAL[status]
    return 10 * OPEN[status] + ORIGIN[origin]


def bucket_of(ts, width):
    return datetime.fromtimestamp(
        int(ts.timestamp()) // int(width.total_seconds()) * int(width.total_seconds()), ts.tzinfo
    )


def add(*columns):
    """How two rows of a group become one: `+` sums, `<` least, `>` greatest; None is nothing."""

    def merge(old, new):
        merged = []
        for how, a, b in zip(columns, old, new, strict=True):
            if a is None or b is None:
                merged.append(b if a is None else a)
            else:
                merged.append(a + b if how == "+" else min(a, b) if how == "<" else max(a, b))
        return merged

    return merge


_MERGES = {
    "payments": add(*"++++++"),
    "requests": add(*"+++++<>++"),
    "request_latency": add("+"),
    "balances": add(*"++<><>++<>"),
    "audit": add("+"),
}
BY_SERVICE = {"payments": "service_payments", "requests": "service_requests", "request_latency": "service_latency"}
"""Rollups that hold the same by service, whoever paid: the first part of the key is the agent."""
MERGES = _MERGES | {service: _MERGES[rollup] for rollup, service in BY_SERVICE.items()}
VALUES = {
    "payments": "payments, duplicates, amount, retry_amount, fee_lamports, retries",
    "requests": "requests, retries, retry_successes, paid, latency_ms_sum, latency_ms_min, latency_ms_max, "
    "backoff_ms_sum, response_bytes_sum",
    "request_latency": "requests",
    "balances": "samples, low_samples, amount_min, amount_max, first, last, inflow, outflow, first_ts, last_ts",
    "audit": "events",
}
VALUES |= {service: VALUES[rollup] for rollup, service in BY_SERVICE.items()}
KEYS = {
    "payments": "agent_id, asset_id, service, status, origin",
    "requests": "agent_id, service, outcome",
    "request_latency": "agent_id, service, latency_bucket",
    "balances": "agent_id, wallet_id, asset_id",
    "audit": "agent_id, event_type, severity, component",
}
KEYS |= {service: KEYS[rollup].removeprefix("agent_id, ") for rollup, service in BY_SERVICE.items()}
RELATION = {
    "payments": "payments",
    "requests": "api_requests",
    "request_latency": "api_requests",
    "balances": "balance_samples",
    "audit": "audit_events",
}
RELATION |= {service: RELATION[rollup] for rollup, service in BY_SERVICE.items()}


@dataclass
class Model:
    """The project's facts, and what follows from them."""

    world: object
    known: dict[str, set] = field(default_factory=lambda: defaultdict(set))
    payments: dict = field(default_factory=dict)
    settlements: dict = field(default_factory=dict)
    queue: dict = field(default_factory=dict)
    balances: dict = field(default_factory=dict)
    breakers: dict = field(default_factory=dict)
    hourly: dict = field(default_factory=lambda: {name: {} for name in MERGES})
    daily: dict = field(default_factory=lambda: {name: {} for name in MERGES})
    touched: set = field(default_factory=set)
    """(relation, hour) of every fact that was new, until somebody clears it."""

    def write(self, facts: Facts) -> dict[str, int]:
        """Store a batch. Returns what a writer must say is new."""
        new = {}
        for relation, rows in facts.by_relation():
            if rows:
                new[relation] = getattr(self, f"_{relation}")(self._fresh(relation, rows))
        return new

    def _fresh(self, relation, rows):
        fresh = []
        for row in sorted(rows, key=self._key(relation)):
            key = self._key(relation)(row)
            if key not in self.known[relation]:
                self.known[relation].add(key)
                self.touched.add((relation, bucket_of(row.ts, HOUR)))
                fresh.append(row)
        return fresh

    @staticmethod
    def _key(relation):
        if relation == "balance_samples":
            return lambda row: (row.wallet_id, row.asset_id, row.ts)
        return lambda row: (row.ts, row.id)

    def _count(self, rollup, ts, key, values):
        for width, groups in ((HOUR, self.hourly), (DAY, self.daily)):
            group = (bucket_of(ts, width), *key)
            held = groups[rollup].get(group)
            groups[rollup][group] = values if held is None else MERGES[rollup](held, values)
        if rollup in BY_SERVICE:
            self._count(BY_SERVICE[rollup], ts, key[1:], values)

    def _payments(self, rows):
        for row in rows:
            head = self.payments.get(row.payment_id)
            bit = BITS[row.status]
            repeated = head is not None and bool(head["told"] & bit)
            if row.status == "settled" and row.signature is not None and not repeated:
                repeated = self.settlements.setdefault(row.signature, row.payment_id) != row.payment_id
            self._tell(row, bit)
            counts = not repeated
            self._count(
                "payments",
                row.ts,
                (row.agent_id, row.asset_id, row.service, row.status, row.origin),
                [
                    int(counts),
                    int(repeated),
                    row.amount * counts,
                    row.amount * (counts and row.retry_count > 0),
                    (row.fee_lamports or 0) * counts,
                    row.retry_count * counts,
                ],
            )
        return len(rows)

    def _tell(self, row, bit):
        head = self.payments.setdefault(
            row.payment_id,
            {"told": 0, "best": None, "opened": row.ts, "last": row.ts, "request": None, "signature": None},
        )
        head["told"] |= bit
        claim = (-rank(row.status, row.origin), row.ts, row.amount, row.asset_id, row.agent_id, row.status, row.origin)
        head["best"] = claim if head["best"] is None else min(head["best"], claim)
        head["opened"], head["last"] = min(head["opened"], row.ts), max(head["last"], row.ts)
        for name, value in (("request", row.request_id), ("signature", row.signature)):
            head[name] = min((one for one in (head[name], value) if one is not None), default=None)

    def _api_requests(self, rows):
        for row in rows:
            ok, retry = row.outcome == "ok", row.attempt > 1
            latency = row.latency_ms
            self._count(
                "requests",
                row.ts,
                (row.agent_id, row.service, row.outcome),
                [
                    *(1, int(retry), int(retry and ok), int(row.paid), latency or 0, latency, latency),
                    *(row.backoff_ms, row.response_bytes or 0),
                ],
            )
            if latency is not None:
                cell = -1 if latency < 1 else math.floor(20 * math.log10(latency))
                self._count("request_latency", row.ts, (row.agent_id, row.service, cell), [1])
        return len(rows)

    def _audit_events(self, rows):
        for row in rows:
            key = (row.agent_id or 0, row.event_type, row.severity, row.component or "")
            self._count("audit", row.ts, key, [1])
            if row.event_type in BREAKERS and row.agent_id is not None:
                breaker = (row.agent_id, row.component or "")
                now = (row.ts, row.id, BREAKERS[row.event_type])
                self.breakers[breaker] = max(self.breakers.get(breaker, now), now)
        return len(rows)

    def _queue_events(self, rows):
        for row in rows:
            key = (row.agent_id, row.request_id)
            head = self.queue.setdefault(key, {"latest": None, "queued": None})
            if row.state == "queued":
                head["queued"] = min(one for one in (head["queued"], row.ts) if one is not None)
            now = (row.ts, row.state != "queued", row.state)
            head["latest"] = now if head["latest"] is None else max(head["latest"], now)
        return len(rows)

    def _balance_samples(self, rows):
        changes, heads = {}, dict(self.balances)
        for row in sorted(rows, key=lambda one: (one.slot, one.ts)):
            key = (row.wallet_id, row.asset_id)
            head = heads.get(key)
            if head is not None and (row.slot, row.ts) <= head[:2]:
                continue
            changes[key, row.ts] = None if head is None else row.amount - head[2]
            status = self._status(row)
            if status == "low" and (head is None or head[3] == "sufficient"):
                self._cross(row)
            heads[key] = (row.slot, row.ts, row.amount, status)
        self.balances = heads
        for row in rows:
            change = changes.get(((row.wallet_id, row.asset_id), row.ts)) or 0
            self._count(
                "balances",
                row.ts,
                (row.agent_id, row.wallet_id, row.asset_id),
                [
                    *(1, int(self._status(row) != "sufficient"), row.amount, row.amount),
                    *([row.slot, row.amount], [row.slot, row.amount], max(change, 0), max(-change, 0), row.ts, row.ts),
                ],
            )
        return len(rows)

    @staticmethod
    def _status(row):
        return row.status or ("low" if row.amount < THRESHOLD else "sufficient")

    def _cross(self, row):
        event_id = derived_uuid7(row.ts, "low_balance", row.project_id, row.wallet_id, row.asset_id)
        crossing = audit(self.world, "low_balance", at=row.ts, id=event_id, severity="warning", component="balance")
        self._audit_events(self._fresh("audit_events", [crossing]))

    def prune(self, payments_before, queue_before):
        """Forget the heads of what was final, and last told of, before these instants."""
        gone = [
            key for key, head in self.payments.items() if head["best"][0] <= -100 and head["last"] < payments_before
        ]
        for key in gone:
            del self.payments[key]
        self.settlements = {s: payment for s, payment in self.settlements.items() if payment in self.payments}
        self.queue = {
            key: head
            for key, head in self.queue.items()
            if head["latest"][2] == "queued" or head["latest"][0] >= queue_before
        }

    def heads(self):
        """Rows of every table of heads, as HEADS in test_interleavings selects them."""
        return {
            "payment_heads": sorted(
                (
                    *(str(key), head["told"], *head["best"][5:], *head["best"][1:5], head["opened"], head["last"]),
                    *(head["request"] and str(head["request"]), head["signature"]),
                )
                for key, head in self.payments.items()
            ),
            "payment_settlements": sorted((signature, str(payment)) for signature, payment in self.settlements.items()),
            "queue_heads": sorted(
                (agent, str(request), head["latest"][2], head["latest"][0], head["queued"])
                for (agent, request), head in self.queue.items()
            ),
            "balance_heads": sorted((*key, *head) for key, head in self.balances.items()),
            "breaker_heads": sorted((*key, state, ts, str(id_)) for key, (ts, id_, state) in self.breakers.items()),
        }

    def rollup(self, name):
        """Rows of a rollup: {(bucket, key…): [values]}."""
        base, _, width = name.rpartition("_")
        return (self.hourly if width == "hourly" else self.daily)[base]

    def totals(self):
        """What /metrics adds up: {family: {key: [values]}} over all facts there ever were."""
        found = {"payment": {}, "request": {}, "latency": {}, "audit": {}}

        def count(family, key, values):
            held = found[family].get(key, [0] * len(values))
            found[family][key] = [a + b for a, b in zip(held, values, strict=True)]

        for (_, agent, asset, _service, status, origin), row in self.hourly["payments"].items():
            count("payment", (agent, asset, status, origin), [row[0], row[2]])
        for (_, agent, service, outcome), row in self.hourly["requests"].items():
            count("request", (agent, service, outcome), [row[0], row[1], row[4]])
        for (_, agent, service, cell), row in self.hourly["request_latency"].items():
            count("latency", (agent, service, cell), row)
        for (_, agent, event_type, severity, component), row in self.hourly["audit"].items():
            count("audit", (agent, event_type, severity, component), row)
        return found
