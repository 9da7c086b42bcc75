"""One thing with all that belongs to it: an agent with its wallets, a payment with its transitions."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.errors import NotFound
from store.named_sql import query
from store.readers.listings import PAYMENTS, Asked, read_page
from store.readers.positions import FactPosition, Window
from store.readers.values import Agent, PaymentHead, Threshold, Transition, Wallet

TOLD_LATER = timedelta(days=1)
"""How long after a payment's deciding transition others are looked for: there is no index on payment_id to find all."""
TOLD_BY_OTHERS = timedelta(minutes=10)
"""How long after the newest that the head knows: a writer of the first schema leaves the head's `last_ts` as it was."""
MAX_TRANSITIONS = 1_000


async def agent(connection: AsyncConnection, project_id: int, name: str) -> tuple[Agent, list[Wallet]]:
    """One agent by name, and its wallets by network and address. Raises NotFound."""
    values = {"project_id": project_id, "name": name}
    row = (await connection.execute(text(query("read_agent")), values)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no agent {name[:100]!r}; GET /v1/agents lists them")
    found = Agent.from_row(row)
    values = {"project_id": project_id, "agent_id": found.agent_id}
    rows = (await connection.execute(text(query("read_agent_wallets")), values)).mappings().all()
    return found, [_wallet(list(group)) for _, group in groupby(rows, key=lambda row: row["wallet_id"])]


def _wallet(rows: list[RowMapping]) -> Wallet:
    thresholds = [Threshold(asset=row["asset"], amount=row["amount"]) for row in rows if row["asset"] is not None]
    columns = {name: value for name, value in rows[0].items() if name not in ("wallet_id", "asset", "amount")}
    return Wallet(**columns, thresholds=tuple(thresholds))


async def payment(
    connection: AsyncConnection, project_id: int, payment_id: UUID
) -> tuple[PaymentHead, list[Transition]]:
    """Present state of one payment, and its transitions, repeats too, oldest first. Raises NotFound."""
    values = {"project_id": project_id, "payment_id": payment_id}
    row = (await connection.execute(text(query("read_payment_head")), values)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no payment {payment_id}")
    head = PaymentHead.from_row({name: value for name, value in row.items() if name != "last_ts"})
    told_last = max(head.ts, row["last_ts"]) + TOLD_BY_OTHERS
    window = Window(head.opened_ts, min(told_last, head.ts + TOLD_LATER))
    asked = Asked(
        project_id=project_id,
        window=window,
        position=FactPosition.first(window),
        limit=MAX_TRANSITIONS,
        filters={"payment_id": payment_id, "duplicates": True},
    )
    return head, (await read_page(connection, PAYMENTS, asked)).rows[::-1]
