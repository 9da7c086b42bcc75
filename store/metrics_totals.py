"""Totals since the beginning, for the exporter: what settled is read once and kept, the newest hours each time.

What is older than an hour, and exact, is settled: the base, whole days, hours. It is read again when what it adds up to
(its stamp: figures that only ever grow when a fact is added, of relations that are small) is not what it was. Late
events, a fold and a day that ends leave it as it is or show in the stamp; where some rollup lacks a row, the stamp says
nothing until it is exact again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.horizons import DAY, HOUR, ROLLUPS
from store.named_sql import query

LATE_SECONDS = 60.0
"""How often at most what settled is read again because a late event changed it, or because nobody can tell."""
SETTLED_SECONDS = 900.0
"""It is read again that often in any case."""
ROWS_AT_ONCE = 500
"""Rows that are turned into Python between two turns of the event loop."""
BREATHS, BREATH_SECONDS = 256, 0.0003
"""How many steps a thread takes before it leaves the interpreter to the event loop, and how long it does."""

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
T = TypeVar("T")
Key = tuple[Any, ...]
"""Ids and names of one series: project, agent, and what is its own."""
Sums = dict[Key, Any]
"""Of each: a tuple of sums, or attempts by cell of latency."""
Stamp = dict[int, tuple[int, ...]]


class Part(NamedTuple):
    """Sums of one family, the first ones by key, and how many there are."""

    sums: Sums
    found: int


class Total(NamedTuple):
    """A family's totals, in order; the same object as long as nothing changed. `found`: at least so many there are."""

    rows: Sequence[tuple[Key, Any]]
    found: int


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """A pair of statements (…_settled and …_hours) and the families that their rows are of."""

    name: str
    families: tuple[str, ...]
    split: Callable[[Sequence[Any]], tuple[str, Key, Any]]


@dataclass(frozen=True, kw_only=True)
class _Relation:
    name: str
    stamp: str
    statements: tuple[_Statement, ...]
    rollups: tuple[str, ...]
    """Those that are read, for figures or for the stamp."""


@dataclass
class _Settled:
    """What settled of one relation, up to a moment, when it was read and when its stamp was last the same."""

    until: datetime
    stamp: Stamp
    parts: dict[str, Part]
    read_at: float
    seen_at: float


@dataclass
class _Merged:
    """What was told last, and from what."""

    settled: Part
    hours: Part
    total: Total


def _payment(row: Sequence[Any]) -> tuple[str, Key, Any]:
    return "payments", tuple(row[:5]), (row[5], int(row[6]))


def _request(row: Sequence[Any]) -> tuple[str, Key, Any]:
    sums = (row[4], row[5], int(row[6]))
    return ("services", tuple(row[:3]), sums) if row[3] is None else ("requests", tuple(row[:4]), sums)


def _latency(row: Sequence[Any]) -> tuple[str, Key, Any]:
    return "latency", tuple(row[:3]), dict(zip(row[3], row[4], strict=True))


def _audit(row: Sequence[Any]) -> tuple[str, Key, Any]:
    project_id, agent_id, event_type, severity, component, events = row[:6]
    if severity is None:
        return "transitions", (project_id, agent_id, event_type, component), (events,)
    return "audit", (project_id, agent_id, event_type, severity), (events,)


def _of(name: str, stamp: str, *rollups: str, statements: tuple[_Statement, ...]) -> _Relation:
    names = tuple(f"{rollup}_{width}" for rollup in rollups for width in ("hourly", "daily"))
    assert set(names) <= {rollup.name for rollup in ROLLUPS}
    return _Relation(name=name, stamp=stamp, statements=statements, rollups=names)


_RELATIONS = (
    _of(
        *("payments", "metrics_payments_stamp", "payments", "service_payments"),
        statements=(_Statement(name="metrics_payments", families=("payments",), split=_payment),),
    ),
    _of(
        *("api_requests", "metrics_requests_stamp", "requests", "request_latency", "service_requests"),
        statements=(
            _Statement(name="metrics_requests", families=("requests", "services"), split=_request),
            _Statement(name="metrics_latency", families=("latency",), split=_latency),
        ),
    ),
    _of(
        *("audit_events", "metrics_audit_stamp", "audit"),
        statements=(_Statement(name="metrics_audit", families=("audit", "transitions"), split=_audit),),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known of a snapshot: its clock, how far rollups are exact, until when buckets are folded."""

    now: datetime
    exact: Mapping[str, datetime]
    folded: Mapping[str, datetime]


@dataclass
class Totals:
    """Totals of one project, or (None) of all; at most `most` of a family, `most_latencies` histograms.

    `late`: seconds, LATE_SECONDS. Not to be read twice at once.
    """

    project_id: int | None
    most: int
    most_latencies: int
    late: float = LATE_SECONDS
    clock: Callable[[], float] = time.monotonic
    settled_reads: int = 0
    """How often what settled of a relation was read as a whole."""
    _settled: dict[str, _Settled] = field(default_factory=dict)
    _merged: dict[str, _Merged] = field(default_factory=dict)

    async def read(self, connection: AsyncConnection, moment: Moment) -> dict[str, Total]:
        """Every family's totals of the connection's snapshot. Raises DatabaseError."""
        totals = {}
        for relation in _RELATIONS:
            settled = await self._up_to_date(connection, relation, moment)
            hours = await self._hours(connection, relation, settled.until, FOREVER)
            for family, part in hours.items():
                totals[family] = await self._total(family, settled.parts[family], part)
        return totals

    async def _up_to_date(self, connection: AsyncConnection, relation: _Relation, moment: Moment) -> _Settled:
        exact = min(moment.exact[rollup] for rollup in relation.rollups)
        folded = moment.folded[relation.name]
        settled = self._settled.get(relation.name)
        if settled is not None and settled.until >= folded:
            stamp = await self._stamp(connection, relation, folded, settled.until) if exact >= settled.until else None
            if not self._is_due(settled, stamp):
                if stamp is not None:
                    await self._advance(connection, relation, settled, stamp, _settles(moment, exact, folded), folded)
                return settled
        return await self._read_settled(connection, relation, _settles(moment, exact, folded), folded)

    def _is_due(self, settled: _Settled, stamp: Stamp | None) -> bool:
        """Whether to read it again: it changed, or nobody could tell for a while (stamp None), or it is old."""
        now = self.clock()
        if stamp == settled.stamp:
            settled.seen_at = now
            return now - settled.read_at >= SETTLED_SECONDS
        since = settled.read_at if stamp is not None else max(settled.read_at, settled.seen_at)
        return now - since >= self.late

    async def _read_settled(
        self, connection: AsyncConnection, relation: _Relation, until: datetime, folded: datetime
    ) -> _Settled:
        values = _parts(folded, until)
        stamp = await self._stamp(connection, relation, folded, until)
        parts = await self._read(connection, relation, "settled", values)
        now = self.clock()
        self._settled[relation.name] = made = _Settled(until, stamp, parts, now, now)
        self.settled_reads += 1
        return made

    async def _advance(
        self,
        connection: AsyncConnection,
        relation: _Relation,
        settled: _Settled,
        stamp: Stamp,
        until: datetime,
        folded: datetime,
    ) -> None:
        """Add the hours that settled since."""
        if until <= settled.until:
            return
        hours = await self._hours(connection, relation, settled.until, until)
        further = await self._stamp(connection, relation, folded, until)
        for family, part in hours.items():
            settled.parts[family] = await asyncio.to_thread(_together, settled.parts[family], part, self._most(family))
        settled.stamp = _moved(settled.stamp, stamp, further)
        settled.until = until

    async def _stamp(
        self, connection: AsyncConnection, relation: _Relation, folded: datetime, until: datetime
    ) -> Stamp:
        asked = {"project_id": self.project_id, **_parts(folded, until)}
        found = await connection.execute(text(query(relation.stamp)), asked)
        return {row[0]: tuple(int(value) for value in row[1:]) for row in found}

    async def _hours(
        self, connection: AsyncConnection, relation: _Relation, start: datetime, end: datetime
    ) -> dict[str, Part]:
        return await self._read(connection, relation, "hours", {"from_ts": start, "to_ts": end})

    async def _read(
        self, connection: AsyncConnection, relation: _Relation, kind: str, values: Mapping[str, Any]
    ) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for statement in relation.statements:
            asked = {"project_id": self.project_id, "most": self._most(statement.families[0]), **values}
            sums: dict[str, Sums] = {family: {} for family in statement.families}
            found = dict.fromkeys(statement.families, 0)
            result = await connection.execute(text(query(f"{statement.name}_{kind}")), asked)
            for rows in result.partitions(ROWS_AT_ONCE):
                for row in rows:
                    family, key, value = statement.split(row)
                    sums[family][key] = value
                    found[family] = row[-1]
                await asyncio.sleep(0)
            parts |= {family: Part(sums[family], found[family]) for family in statement.families}
        return parts

    async def _total(self, family: str, settled: Part, hours: Part) -> Total:
        before = self._merged.get(family)
        if before is not None and before.settled is settled and before.hours == hours:
            return before.total
        both = await asyncio.to_thread(_together, settled, hours, self._most(family))
        total = Total(list(both.sums.items()), both.found)
        self._merged[family] = _Merged(settled, hours, total)
        return total

    def _most(self, family: str) -> int:
        return self.most_latencies if family == "latency" else self.most


def _settles(moment: Moment, exact: datetime, folded: datetime) -> datetime:
    """Until when everything is settled now: an hour ago, and no further than rollups are exact."""
    return max(folded, _floor(min(exact, moment.now - HOUR), HOUR))


def _parts(folded: datetime, until: datetime) -> dict[str, datetime]:
    """Where what is not folded is read as days: all whole ones. They hold exactly what their hours do: `until` is no
    later than the rollups of days are exact.
    """
    first_day = min(_floor(folded + DAY - timedelta(microseconds=1), DAY), until)
    last_day = max(first_day, _floor(until, DAY))
    return {"folded_until": folded, "first_day": first_day, "last_day": last_day, "until": until}


def _floor(moment: datetime, width: timedelta) -> datetime:
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // width * width


def _moved(kept: Stamp, before: Stamp, after: Stamp) -> Stamp:
    """A stamp with what was added to it since; what it lacks, it goes on lacking."""
    moved = dict(kept)
    for project_id, sums in after.items():
        nothing = (0,) * len(sums)
        grown = (new - old for new, old in zip(sums, before.get(project_id, nothing), strict=True))
        moved[project_id] = tuple(map(add, kept.get(project_id, nothing), grown))
    return moved


def _together(one: Part, other: Part, most: int) -> Part:
    """Both added up, in order of their keys, the first `most`: each has its own first ones, so none is missing."""
    sums = dict(one.sums)
    for key, value in breathing(other.sums.items()):
        sums[key] = _added(sums[key], value) if key in sums else value
    found = max(len(sums), one.found, other.found)
    if len(sums) > len(one.sums):
        sums = {key: sums[key] for key in sorted(sums)[:most]}
    return Part(sums, found)


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        cells = dict(one)
        for cell, number in other.items():
            cells[cell] = cells.get(cell, 0) + number
        return cells
    return tuple(map(add, one, other))


def breathing(items: Iterable[T]) -> Iterator[T]:
    """The same, for a thread: every so often everyone else may use the interpreter."""
    for number, item in enumerate(items):
        if number % BREATHS == BREATHS - 1:
            time.sleep(BREATH_SECONDS)
        yield item
