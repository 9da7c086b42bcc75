"""The sandbox's books: what it knows to be true of this run, for whoever compares it with what was told."""

from itertools import islice

from solders.pubkey import Pubkey

from sandbox.agents import Agent
from sandbox.chain import Chain
from sandbox.ledger import Record, TokenBalance

SEARCHED = 10_000
"""Transactions of a wallet, from the newest, among which its unknown payments are looked for."""


def account_for(agent: Agent, chain: Chain) -> dict[str, object]:
    """The page of one agent; its lists are sandbox.diary's, as {count, items}."""
    tally, diary, profile = agent.tally, agent.diary, agent.profile
    _look_up(diary.unknown.items, Pubkey.from_string(agent.address), chain)
    return {
        "name": profile.name,
        "story": profile.story,
        "ended": agent.ended,
        "wallet": agent.address,
        "asset": profile.asset.symbol,
        "mint": str(profile.asset.mint),
        "purchases": {
            "started": tally.started,
            "done": tally.done,
            "failed": tally.failed,
            "skipped": tally.skipped,
        },
        "payments": dict(tally.payments),
        "spent": str(tally.spent),
        "settled_payments": diary.settled.shown(),
        "unknown_payments": diary.unknown.shown(),
        "false_payments": diary.false.shown(),
        "retries": diary.retries.shown(),
        "breaker": diary.breaker.shown(),
        "moments": diary.moments.shown(),
        "queue": diary.queue.shown(),
        "top_ups": diary.top_ups.shown(),
        "sessions": diary.sessions.shown(),
        "reporter": _report(agent),
    }


def _report(agent: Agent) -> dict[str, object]:
    stats = agent.recorder.stats()
    return {
        "sent": stats.accepted + stats.duplicates + sum(stats.rejected.values()),
        "accepted": stats.accepted,
        "duplicates": stats.duplicates,
        "rejected": stats.rejected,
        "dropped": stats.dropped,
        "pending": stats.waiting,
        "unregistered": stats.unregistered,
    }


def _look_up(unknown: list[dict[str, object]], wallet: Pubkey, chain: Chain) -> None:
    """Complete entries with {signature, chain}: the transaction that bears the payment's memo, and what it moved."""
    memos = {_memo(entry["x402_payment_id"]): entry for entry in unknown if entry.get("signature") is None}
    for entry in memos.values():
        entry |= {"signature": None, "chain": None}
    if not memos:
        return
    named = chain.ledger.naming(bytes(wallet), before=None, until=None)
    for record in islice(named, SEARCHED):
        found = memos.pop(record.memo or "", None)
        if found is not None:
            found |= _settlement(record, bytes(wallet))
        if not memos:
            return


def _memo(text: object) -> str:
    """As a node writes it."""
    return f"[{len(str(text).encode())}] {text}"


def _settlement(record: Record, wallet: bytes) -> dict[str, object]:
    detail = record.detail()
    spent = _held(detail.before.tokens, wallet) - _held(detail.after.tokens, wallet)
    said = {"slot": record.slot, "err": record.err, "spent": str(spent)}
    return {"signature": str(detail.transaction().signatures[0]), "chain": said}


def _held(balances: tuple[TokenBalance, ...], owner: bytes) -> int:
    return sum(one.amount for one in balances if one.owner == owner)
