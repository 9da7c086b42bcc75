"""The figures of a recorder: where every event is, and what went wrong."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass

log = logging.getLogger("tollwatch")


@dataclass(frozen=True, kw_only=True)
class Stats:
    """While nothing is in motion: `recorded + recovered == accepted + duplicates + sum(rejected) + dropped + waiting`.

    `recovered` are events of earlier processes, found in the disk buffer. `spooled` are those accepted while the
    server's database was away: kept, and shown later. `rejected` counts by Tollwatch's code, or
    `http_<status>` of a body that was refused. `dropped` is the sum of `dropped_by`: `buffer_full`, `disk_full`,
    `corrupt` (unreadable on disk), `too_old`, `closed` (left when the recorder closed). `waiting` are in memory, on
    disk or on their way. `invalid` were never recorded, by the member at fault; `skipped` is x402 traffic that no event
    can tell. `errors` counts faults of this library, `disk_errors` writes that failed, `unregistered` registrations
    that were refused.
    """

    recorded: int
    recovered: int
    accepted: int
    spooled: int
    duplicates: int
    rejected: dict[str, int]
    dropped: int
    dropped_by: dict[str, int]
    waiting: int
    invalid: dict[str, int]
    skipped: dict[str, int]
    unregistered: dict[str, int]
    errors: int
    disk_errors: int
    batches: int
    trouble: str
    """Why the latest try did not succeed; empty when it did."""


class Figures:
    """Counts, for any number of threads."""

    _TABLES = ("rejected", "dropped", "invalid", "skipped", "unregistered")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._tables: dict[str, Counter[str]] = {name: Counter() for name in self._TABLES}
        self._said: set[str] = set()
        self.trouble = ""

    def add(self, name: str, number: int = 1) -> None:
        """Count `number` more of `name`."""
        with self._lock:
            self._numbers[name] += number

    def add_by(self, table: str, key: str, number: int = 1) -> None:
        """Count `number` more under `key` of a table."""
        with self._lock:
            self._tables[table][key] += number

    def dropped(self) -> tuple[int, dict[str, int]]:
        """How many events were dropped, in all and by reason."""
        with self._lock:
            by = dict(self._tables["dropped"])
        return sum(by.values()), by

    def warn_once(self, about: str, message: str, *args: object) -> None:
        """Log the first time that something about this happens."""
        with self._lock:
            first = about not in self._said
            self._said.add(about)
        if first:
            log.warning(message, *args)

    def reset_lock(self) -> None:
        """After a fork."""
        self._lock = threading.Lock()

    def stats(self, waiting: int) -> Stats:
        """All of them."""
        with self._lock:
            numbers, tables = Counter(self._numbers), {name: dict(table) for name, table in self._tables.items()}
        return Stats(
            recorded=numbers["recorded"],
            recovered=numbers["recovered"],
            accepted=numbers["accepted"],
            spooled=numbers["spooled"],
            duplicates=numbers["duplicates"],
            rejected=tables["rejected"],
            dropped=sum(tables["dropped"].values()),
            dropped_by=tables["dropped"],
            waiting=waiting,
            invalid=tables["invalid"],
            skipped=tables["skipped"],
            unregistered=tables["unregistered"],
            errors=numbers["errors"],
            disk_errors=numbers["disk_errors"],
            batches=numbers["batches"],
            trouble=self.trouble,
        )
