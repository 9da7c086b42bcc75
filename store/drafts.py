"""Drafts: facts of one project, checked as far as that goes without the database, with ids of wallets and assets open.

Drafts ──resolve(directory)──► Resolved: facts with ids, and the events that could get none
Drafts ◄──encode, decode──► bytes, which survive a restart: nothing in them is an id that is still to be made
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import force_setattr as set_field

from store.directory import Address, AssetName, Directory
from store.facts import RELATIONS, ApiRequest, AuditEvent, BalanceSample, Facts, Payment, QueueEvent

OPEN = 0
"""The id of a wallet or asset that must have one and is not looked up yet. No row has it."""

F = TypeVar("F", Payment, ApiRequest, AuditEvent, QueueEvent, BalanceSample)
N = TypeVar("N", Address, AssetName)


class Rows(msgspec.Struct, Generic[F], gc=False):
    """Drafts of one relation: four lists of one length. What a row names is None or still to be looked up."""

    facts: list[F] = msgspec.field(default_factory=list)
    wallets: list[Address | None] = msgspec.field(default_factory=list)
    assets: list[AssetName | None] = msgspec.field(default_factory=list)
    indexes: list[int] = msgspec.field(default_factory=list)
    """Where in its request an event stood."""

    def __len__(self) -> int:
        return len(self.facts)

    def add(self, fact: F, wallet: Address | None, asset: AssetName | None, index: int) -> None:
        """Put one more behind the others."""
        self.facts.append(fact)
        self.wallets.append(wallet)
        self.assets.append(asset)
        self.indexes.append(index)


class Drafts(msgspec.Struct, kw_only=True):
    """A batch of one project."""

    project_id: int
    payments: Rows[Payment] = msgspec.field(default_factory=Rows[Payment])
    api_requests: Rows[ApiRequest] = msgspec.field(default_factory=Rows[ApiRequest])
    audit_events: Rows[AuditEvent] = msgspec.field(default_factory=Rows[AuditEvent])
    queue_events: Rows[QueueEvent] = msgspec.field(default_factory=Rows[QueueEvent])
    balance_samples: Rows[BalanceSample] = msgspec.field(default_factory=Rows[BalanceSample])

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.by_relation())

    def by_relation(self) -> Iterator[tuple[str, Rows[Payment]]]:
        """(relation name, its drafts), in the order of Facts.by_relation."""
        for name in RELATIONS:
            yield name, getattr(self, name)

    def encode(self) -> bytes:
        """As bytes that `decode` reads back to an equal value."""
        return _encoder.encode(self)

    @staticmethod
    def decode(encoded: bytes) -> Drafts:
        """What `encode` wrote. Raises msgspec.DecodeError: it is something else."""
        return _decoder.decode(encoded)


_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(Drafts)


@dataclass(kw_only=True)
class Resolved:
    """Facts with their ids, and beside them, per relation, the indexes of their events.

    `lost`: index of an event → the name, of a wallet or asset, that has no id and gets none.
    """

    facts: Facts
    indexes: dict[str, list[int]] = field(default_factory=dict)
    lost: dict[int, Address | AssetName] = field(default_factory=dict)

    def index_of(self, fact: msgspec.Struct) -> int:
        """Where in its request the event of this very fact stood."""
        for relation, rows in self.facts.by_relation():
            for index, one in zip(self.indexes[relation], rows, strict=True):
                if one is fact:
                    return index
        raise LookupError(type(fact).__name__)


async def resolve(drafts: Drafts, directory: Directory) -> Resolved:
    """Look up what drafts name; wallets and mints that nobody registered are kept. Raises DatabaseError."""
    lists = [rows for _, rows in drafts.by_relation()]
    assets = await directory.assets(drafts.project_id, _names(rows.assets for rows in lists))
    wallets = await directory.wallets(drafts.project_id, _names(rows.wallets for rows in lists))
    resolved = Resolved(facts=Facts())
    for relation, rows in drafts.by_relation():
        made = getattr(resolved.facts, relation)
        places = resolved.indexes[relation] = []
        for fact, wallet, asset, index in zip(rows.facts, rows.wallets, rows.assets, rows.indexes, strict=True):
            # Nobody else has a draft's fact, and to copy one takes four times as long. Ids never change.
            if asset is not None:
                if (asset_id := assets.get(asset)) is None:
                    resolved.lost[index] = asset
                    continue
                set_field(fact, "asset_id", asset_id)
            if wallet is not None:
                if (wallet_id := wallets.get(wallet)) is None:
                    resolved.lost[index] = wallet
                    continue
                set_field(fact, "wallet_id", wallet_id)
            made.append(fact)
            places.append(index)
    return resolved


def _names(lists: Iterable[list[N | None]]) -> set[N]:
    return {name for names in lists for name in names if name is not None}
