"""Group commit: small batches that arrive while transactions are under way share the next one.

    write ──► queue (bounded) ──► a free slot takes all that fits ──► FactWriter.write_group ──► each hears of its own

There is no timer: a batch that finds a free slot goes at once, alone. A batch that the database refuses never fails the
others of its group; of such a batch everything is stored but the facts that are refused by themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from store.errors import DatabaseBusy, DatabaseError, DatabaseRefusedData
from store.facts import Facts, Stored

GROUP_ROWS = 1_000
"""Facts of one transaction, unless a single batch has more: above this a larger one is hardly faster, only later."""
GROUP_BATCHES = 1_000
"""Batches of one transaction."""
SLOTS = 3
"""Transactions at once: one is copied in while another is worked on and a third commits. More wait for each other."""
MAX_REFUSED = 100
"""Facts of a batch that are found to be refused, each at the price of a dozen transactions; with more, all of it is."""


class GroupSink(Protocol):
    """Where groups go: `store.writer.FactWriter`."""

    async def write_group(self, group: Sequence[Facts]) -> list[Stored]:
        """Store batches in one transaction; what was new of each. Raises DatabaseError: nothing was stored of any."""
        ...


@dataclass(kw_only=True)
class Written:
    """What became of a batch. `refused`: facts that the database does not take, and what it said."""

    stored: Stored
    refused: list[tuple[msgspec.Struct, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    facts: Facts
    size: int
    done: asyncio.Future[Written]


class GroupWriter:
    """Stores batches, several to a transaction. One per process; `close` before its sink goes."""

    def __init__(self, sink: GroupSink, *, max_waiting: int) -> None:
        """`max_waiting`: facts that may wait for a slot; a single batch may always."""
        self._sink = sink
        self._max_waiting = max_waiting
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Facts that wait for a slot."""
        return self._waiting

    async def write(self, facts: Facts) -> Written:
        """Returns after the commit. Raises DatabaseBusy: too much waits. Raises DatabaseError: nothing was stored.

        Who stops waiting (a client is gone) takes a batch out of the queue, but not out of a transaction.
        """
        size = len(facts)
        if self._waiting and self._waiting + size > self._max_waiting:
            raise DatabaseBusy
        one = _Waiting(facts=facts, size=size, done=asyncio.get_running_loop().create_future())
        self._queue.append(one)
        self._waiting += size
        self._fill_slots()
        return await one.done

    async def close(self) -> None:
        """Wait for what is in hand."""
        while self._running:
            await asyncio.wait(self._running)

    def _fill_slots(self) -> None:
        while self._queue and len(self._running) < SLOTS:
            group = self._take()
            if group:
                # A transaction is not one request's: it has nobody's context.
                task = asyncio.create_task(self._run(group), context=Context())
                self._running.add(task)
                task.add_done_callback(self._free_slot)

    def _free_slot(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._fill_slots()

    def _take(self) -> list[_Waiting]:
        """The oldest batches, as many as fit; those that nobody waits for any more are dropped."""
        group: list[_Waiting] = []
        rows = 0
        while self._queue and len(group) < GROUP_BATCHES and (not group or rows + self._queue[0].size <= GROUP_ROWS):
            one = self._queue.popleft()
            self._waiting -= one.size
            if not one.done.done():
                group.append(one)
                rows += one.size
        return group

    async def _run(self, group: list[_Waiting]) -> None:
        try:
            stored = await self._sink.write_group([one.facts for one in group])
        except DatabaseRefusedData as exc:
            await self._one_by_one(group, exc)
        except BaseException as exc:
            for one in group:
                _fail(one, exc)
            if not isinstance(exc, Exception):
                raise
        else:
            for one, its in zip(group, stored, strict=True):
                _finish(one, Written(stored=its))

    async def _one_by_one(self, group: list[_Waiting], exc: DatabaseRefusedData) -> None:
        if len(group) > 1:
            for one in group:
                await self._run([one])
            return
        (one,) = group
        written = Written(stored=Stored(new={}))
        try:
            await self._apart(one.facts, exc, written)
        except DatabaseError as failed:
            _fail(one, failed)
        else:
            _finish(one, written)

    async def _apart(self, facts: Facts, exc: DatabaseRefusedData, written: Written) -> None:
        """Store what can be stored of facts that are refused together, by halves."""
        if len(facts) == 1:
            if len(written.refused) == MAX_REFUSED:
                raise exc
            written.refused += [(fact, str(exc)) for _, rows in facts.by_relation() for fact in rows]
            return
        for half in _halves(facts):
            try:
                (stored,) = await self._sink.write_group([half])
            except DatabaseRefusedData as refused:
                await self._apart(half, refused, written)
            else:
                for relation, new in stored.new.items():
                    written.stored.new[relation] = written.stored.new.get(relation, 0) + new


def _halves(facts: Facts) -> tuple[Facts, Facts]:
    left, right = Facts(), Facts()
    middle = len(facts) // 2
    for relation, rows in facts.by_relation():
        getattr(left, relation).extend(rows[:middle])
        getattr(right, relation).extend(rows[middle:])
        middle = max(0, middle - len(rows))
    return left, right


def _finish(one: _Waiting, written: Written) -> None:
    if not one.done.done():
        one.done.set_result(written)


def _fail(one: _Waiting, exc: BaseException) -> None:
    if not one.done.done():
        one.done.set_exception(exc)
