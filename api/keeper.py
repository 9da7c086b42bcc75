"""Keepers: where a request's drafts go before it is answered. DirectKeeper: into the database, committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from api.rejections import MAX_ECHO, Code, Rejected, shown
from store.directory import Address, AssetName, Directory, mint_of
from store.drafts import Drafts, resolve
from store.facts import Facts, Stored
from store.group_writer import Written


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of drafts. `new` None: on the spool, fsynced, not counted. `refused`: by index in the request."""

    new: Stored | None
    refused: Mapping[int, Rejected] = field(default_factory=dict)


class Keeper(Protocol):
    """Keeps drafts so that they can be acknowledged."""

    async def keep(self, drafts: Drafts) -> Kept:
        """Returns once what is not refused is durable. Raises DatabaseError: nothing was kept."""
        ...


class Writer(Protocol):
    """Where facts go: `store.group_writer.GroupWriter`, or what stands in front of a writer."""

    async def write(self, facts: Facts) -> Written:
        """Returns after the commit. Raises DatabaseError: nothing was stored."""
        ...


class DirectKeeper:
    """Resolves ids and writes."""

    def __init__(self, directory: Directory, writer: Writer) -> None:
        self._directory = directory
        self._writer = writer

    async def keep(self, drafts: Drafts) -> Kept:
        """Returns after the commit. Raises DatabaseError: nothing was stored."""
        resolved = await resolve(drafts, self._directory)
        refused = {index: no_id(name) for index, name in resolved.lost.items()}
        if not len(resolved.facts):
            return Kept(new=Stored(new={}), refused=refused)
        written = await self._writer.write(resolved.facts)
        for fact, said in written.refused:
            refused[resolved.index_of(fact)] = _not_storable(said)
        return Kept(new=written.stored, refused=refused)


def _not_storable(said: str) -> Rejected:
    return Rejected(Code.NOT_STORABLE, f"the database does not take it: {said[:MAX_ECHO]}")


def no_id(name: Address | AssetName) -> Rejected:
    """Why an event that names this wallet or asset cannot be stored."""
    network, named = name
    if isinstance(named, str) and mint_of((network, named)) is None:
        return Rejected(
            Code.UNKNOWN_ASSET,
            f"asset {shown(named)} is neither a symbol known on {network} nor a mint; send the mint's address",
        )
    member = "asset" if isinstance(named, str) else "wallet"
    return Rejected(
        Code.TOO_MANY_UNREGISTERED,
        f"{member}: the project has named too many that nobody registered; register it, then send again",
    )
