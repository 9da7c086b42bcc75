"""The SQL of panels and variables: `queries/<dashboard>.sql`, each statement named and described.

-- name: low_wallets
-- Balances below their threshold.
SELECT …

`{agent}` is the choice of agents. `{payments}`, `{requests}` and `{latency}` are rollups: hours on short ranges, days
on long ones, by service while all agents are chosen and by agent else; `{agent_payments}`, `{agent_requests}` and
`{audit}` by agent always; `{agent_payments_before}` begins a day before the range. `{payments_of_all}` and
`{requests_of_all}` tell what there is to choose from: by service, with the day before. What a range and a choice do
not need is folded away when the statement is planned.

`{with_…}` is the part of that name in the same file, which several statements begin with.

`{newest_first}` is a list of windows (since, until), the newest and shortest first: a list of the newest facts asks
each in turn and ends when it has enough. The views are barriers: a LIMIT outside of one does not end the scan inside.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "queries"
_PART = re.compile(r"{(with_\w+)}")
_NAME = re.compile(r"^-- name: (\w+)\n((?:-- .*\n)+)", re.MULTILINE)


@cache
def statements(file: str) -> dict[str, str]:
    """Every statement of one file by its name, without comments. Raises LookupError: a name is there twice."""
    _, *parts = _NAME.split((FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    names, texts = parts[::3], parts[2::3]
    if len(set(names)) < len(names):
        raise LookupError(f"{file}.sql: a name is there twice")
    return {name: text.strip() for name, text in zip(names, texts, strict=True)}


def statement(path: str) -> str:
    """One statement by `file.name`, its file's own parts and then its sources filled in. Raises LookupError."""
    file, name = path.split(".")
    own = statements(file)
    whole = _PART.sub(lambda found: own[found[1]], own[name])
    return _SOURCE.sub(lambda found: SOURCES[found[1]], whole)


ALL_AGENTS = "'*'"
"""What Grafana puts in place of `agent` while all are chosen: a list of thousands would cost more than the answer."""
_CHOSEN = "agent IN (${agent:sqlstring})"
_ALL = "'*' IN (${agent:sqlstring})"


_IN_RANGE = "$__timeFilter(bucket)"
_AND_DAY_BEFORE = "bucket BETWEEN $__timeFrom()::timestamptz - INTERVAL '24 hours' AND $__timeTo()"


def _rollups(rollup: str, columns: str, within: str, *, most_days: int = 8, when: str = _IN_RANGE) -> str:
    """Hours of ranges up to so many days, whole days (UTC) of longer ones."""
    span = "$__timeTo()::timestamptz - $__timeFrom()::timestamptz"
    return "\n  UNION ALL\n".join(
        f"  SELECT {columns}\n  FROM {rollup}_{size}\n"  # noqa: S608 (our own names)
        f"  WHERE {when} AND {span} {compared} INTERVAL '{most_days} days' AND {within}"
        for size, compared in (("hourly", "<="), ("daily", ">"))
    )


def _either(service_rollup: str, agent_rollup: str, columns: str, *, most_days: int = 8) -> str:
    of_all = _rollups(service_rollup, f"CAST(NULL AS text) AS agent, {columns}", _ALL, most_days=most_days)
    of_some = _rollups(agent_rollup, f"agent, {columns}", f"NOT {_ALL} AND {_CHOSEN}", most_days=most_days)
    return f"(\n{of_all}\n  UNION ALL\n{of_some}\n)"


_PAYMENTS = (
    "bucket, asset, network, service, status, origin, payments, duplicates, amount, tokens, retry_amount, retry_tokens"
)
_REQUESTS = "bucket, service, outcome, requests, retries, retry_successes, backoff_ms_sum"
_OF_AGENTS = f"({_ALL} OR {_CHOSEN})"
SOURCES = {
    "agent": _OF_AGENTS,
    "payments": f"{_either('service_payments', 'payments', _PAYMENTS)} AS payments",
    "requests": f"{_either('service_requests', 'requests', _REQUESTS)} AS requests",
    "latency": _either("service_latency", "request_latency", "bucket, service, latency_bucket, requests", most_days=2)
    + " AS latency",
}
SOURCES["newest_first"] = """(
  SELECT CASE n WHEN 0 THEN $__timeFrom()::timestamptz ELSE $__timeTo()::timestamptz - span / power(4, n) END AS since,
    CASE n WHEN 6 THEN 'infinity' ELSE $__timeTo()::timestamptz - span / power(4, n + 1) END AS until
  FROM generate_series(6, 0, -1) AS n,
    make_interval(secs => extract(epoch FROM $__timeTo()::timestamptz - $__timeFrom()::timestamptz)) AS span
) AS near"""
_BALANCES = "bucket, agent, network, wallet, asset, slot_last, tokens_last, inflow, outflow"
for _name, _rollup, _columns, _days, _alias in (
    ("agent_payments", "payments", f"agent, {_PAYMENTS}", 1, "payments"),
    ("agent_requests", "requests", f"agent, {_REQUESTS}", 1, "requests"),
    ("balances", "balances", _BALANCES, 2, "b"),
):
    SOURCES[_name] = f"(\n{_rollups(_rollup, _columns, _OF_AGENTS, most_days=_days)}\n) AS {_alias}"
_AUDIT = _rollups("audit", "bucket, agent, event_type, severity, component, events", f"({_OF_AGENTS} OR agent IS NULL)")
SOURCES["audit"] = f"(\n{_AUDIT}\n) AS audit"
_BEFORE = _rollups("payments", f"agent, {_PAYMENTS}", _OF_AGENTS, most_days=1, when=_AND_DAY_BEFORE)
SOURCES["bucket_of_agents"] = (
    "CASE WHEN $__timeTo()::timestamptz - $__timeFrom()::timestamptz <= INTERVAL '1 days' "
    "THEN INTERVAL '1 hour' ELSE INTERVAL '24 hours' END"
)
for _name, _rollup, _columns, _alias in (
    ("payments_of_all", "service_payments", "asset, network, service", "payments"),
    ("requests_of_all", "service_requests", "service", "requests"),
):
    SOURCES[_name] = f"(\n{_rollups(_rollup, _columns, 'true', when=_AND_DAY_BEFORE)}\n) AS {_alias}"
SOURCES["agent_payments_before"] = f"(\n{_BEFORE}\n) AS payments"
_SOURCE = re.compile("{(" + "|".join(SOURCES) + ")}")
