"""Heads in the long run: made again from the facts, beside live writers; pruned once their facts have expired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from store.edition import Edition
from store.engine import wrap_errors, writing
from store.horizons import DAY, RELATIONS, retention_of
from store.named_sql import query, rendered
from store.settings import Settings
from store.tables import metadata

MENDED_AT_ONCE = 1000
"""Heads that one transaction of a rebuild locks."""
MAX_ROUNDS = 10
"""Looks at the heads; a suspect that writers move between each look and its mending is left to the next rebuild."""
PRUNED_BLOCKS = 4096
"""Blocks of a table of heads, 32 MiB, that one run of pruning reads."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A table of heads. `whole`: whether all facts of a head `h` are kept still, given `:kept_from`."""

    name: str
    relation: str
    whole: str

    @property
    def keys(self) -> Sequence[str]:
        """The columns of its key."""
        return [column.name for column in metadata.tables[f"tollwatch.{self.name}"].primary_key]

    @property
    def columns(self) -> Sequence[str]:
        """The others."""
        return [column.name for column in metadata.tables[f"tollwatch.{self.name}"].c if column.name not in self.keys]


HEADS = (
    Head(name="payment_heads", relation="payments", whole="h.opened_ts >= :kept_from"),
    # Nothing says since when; one that no kept fact supports may rest on an expired one.
    Head(name="payment_settlements", relation="payments", whole="made.present"),
    Head(name="balance_heads", relation="balance_samples", whole="h.ts >= :kept_from"),
    Head(name="breaker_heads", relation="audit_events", whole="h.ts >= :kept_from"),
    Head(name="queue_heads", relation="queue_events", whole="least(h.ts, h.queued_ts) >= :kept_from"),
)
_PRUNED = {"payment_heads": "payments", "payment_settlements": "payments", "queue_heads": "queue_events"}
"""Those that grow with the facts. The others are as many as wallets and breakers."""


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What a rebuild of one table of heads did: how many it holds, how many were not what their facts say."""

    head: str
    heads: int
    mended: int


async def rebuild(engine: AsyncEngine, settings: Settings) -> list[Rebuilt]:
    """Make every head what its facts say, beside live writers. Raises DatabaseError; may be run again."""
    now = datetime.now(UTC)
    return [await _rebuild(engine, head, _kept_from(head.relation, now, settings)) for head in HEADS]


async def _rebuild(engine: AsyncEngine, head: Head, kept_from: datetime) -> Rebuilt:
    names = _names(head)
    mended = 0
    with wrap_errors():
        async with engine.connect() as connection:
            for _ in range(MAX_ROUNDS):
                suspects = await _find(connection, names, kept_from)
                for after in range(0, suspects, MENDED_AT_ONCE):
                    mended += await _mend(connection, names, after)
                if not suspects:
                    break
            heads = (await connection.execute(text(rendered("count_heads", **names)))).scalar_one()
    return Rebuilt(head=head.name, heads=heads, mended=mended)


async def _find(connection: AsyncConnection, names: dict[str, str], kept_from: datetime) -> int:
    await connection.execute(text(query("drop_suspects")))
    await connection.execute(text(rendered("find_suspects", **names)), {"kept_from": kept_from})
    suspects = int((await connection.execute(text(query("count_suspects")))).scalar_one())
    if not suspects:
        await connection.execute(text(query("drop_suspects")))
    await connection.commit()
    return suspects


async def _mend(connection: AsyncConnection, names: dict[str, str], after: int) -> int:
    values = {"after": after, "upto": after + MENDED_AT_ONCE}
    await connection.execute(text(rendered("lock_suspects", **names)), values)
    mended = 0
    for name in ("mend_suspects", "add_suspects", "remove_suspects"):
        mended += (await connection.execute(text(rendered(name, **names)), values)).rowcount
    await connection.commit()
    return mended


def _names(head: Head) -> dict[str, str]:
    def listed(table: str, columns: Sequence[str]) -> str:
        return ", ".join(f"{table}{column}" for column in columns)

    return {
        "head": head.name,
        "facts": query(f"{head.name}_from_facts"),
        "keys": listed("", head.keys),
        "h_keys": listed("h.", head.keys),
        "s_keys": listed("s.", head.keys),
        "columns": listed("", head.columns),
        "s_columns": listed("s.", head.columns),
        "made": listed("made.", head.columns),
        "held": listed("h.", head.columns),
        "whole": head.whole,
    }


def _kept_from(relation: str, now: datetime, settings: Settings) -> datetime:
    """A day more than retention says: it must not take, while this runs, what this reads."""
    known = next(item for item in RELATIONS if item.name == relation)
    return now - retention_of(known, settings) + DAY


async def prune(engine: AsyncEngine, _edition: Edition, settings: Settings) -> int:
    """Prune the next blocks of every table of heads that grows with the facts. Returns how many heads went.

    A head stays until its facts have expired with certainty: until then a resend, which ingest and backfill refuse
    later, must find it. An open one stays until nobody has spoken of it for as long as rollups are kept.
    """
    return sum([await _prune(engine, head, settings) for head in _PRUNED])


async def _prune(engine: AsyncEngine, head: str, settings: Settings) -> int:
    known = next(item for item in RELATIONS if item.name == _PRUNED[head])
    now = datetime.now(UTC)
    async with writing(engine) as connection:
        state = (await connection.execute(text(query("lock_prune")), {"head": head})).one()
        start = state.block if state.block < state.blocks else 0
        values: dict[str, object] = {
            "from_tid": f"({start},0)",
            "to_tid": f"({start + PRUNED_BLOCKS},0)",
            # Retention drops whole partitions, every hour.
            "expired": now - retention_of(known, settings) - known.chunk_interval - DAY,
            "bound": now - settings.retain_rollups,
        }
        if head == "payment_settlements":
            values = {name: values[name] for name in ("from_tid", "to_tid")}
        pruned = (await connection.execute(text(query(f"prune_{head}")), values)).rowcount
        await connection.execute(text(query("move_prune")), {"head": head, "block": start + PRUNED_BLOCKS})
    return pruned
