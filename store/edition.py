"""Editions: what the database offers, found once and compared at every start. See docs/architecture.md, Editions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.errors import WrongEdition
from store.named_sql import query

COMMUNITY_FLOOR = (2, 29, 2)
"""2.29.1 fixed security issues, 2.29.2 wrong results of SkipScan (TimescaleDB's release notes)."""
POSTGRES_FLOOR = 15


class Edition(StrEnum):
    """Hypertables or ranges, continuous aggregates or own rollups."""

    PLAIN = "plain"
    APACHE = "apache"
    COMMUNITY = "community"

    @property
    def has_hypertables(self) -> bool:
        """Partitions are TimescaleDB's chunks."""
        return self is not Edition.PLAIN

    @property
    def has_own_rollups(self) -> bool:
        """Rollups are refreshed by us, not by TimescaleDB."""
        return self is not Edition.COMMUNITY


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the server offers today."""

    edition: Edition
    timescaledb: str | None
    postgres: int
    loaded: bool = False
    """TimescaleDB runs in this database."""
    at_hand: bool = False
    """The server runs TimescaleDB, and CREATE EXTENSION would work here."""

    def __str__(self) -> str:
        return f"{self.edition}" + (f" (TimescaleDB {self.timescaledb})" if self.timescaledb else "")


def _version(text_: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text_)[:3])


async def detect(connection: AsyncConnection) -> Offer:
    """Ask the server. On Apache the functions of the community licence exist and fail: presence proves nothing."""
    row = (await connection.execute(text(query("server_offer")))).one()
    if row.timescaledb is None:
        edition = Edition.PLAIN
    else:
        edition = Edition.COMMUNITY if row.license == "timescale" else Edition.APACHE
    return Offer(
        edition=edition,
        timescaledb=row.timescaledb,
        postgres=row.postgres // 10000,
        loaded=bool(row.license),
        at_hand=row.at_hand,
    )


def check_floor(offer: Offer) -> None:
    """Refuse servers that are known to be wrong or too old. Raises WrongEdition."""
    if offer.timescaledb is not None and not offer.loaded:
        raise WrongEdition(
            "the database has the extension timescaledb and the server does not load it; set shared_preload_libraries "
            "= 'timescaledb' in postgresql.conf, take timescaledb.disable_load away, and restart the server"
        )
    if offer.postgres < POSTGRES_FLOOR:
        raise WrongEdition(f"PostgreSQL {offer.postgres} is too old; Tollwatch needs {POSTGRES_FLOOR} or newer")
    if offer.edition is Edition.COMMUNITY and _version(offer.timescaledb or "") < COMMUNITY_FLOOR:
        floor = ".".join(map(str, COMMUNITY_FLOOR))
        raise WrongEdition(
            f"TimescaleDB {offer.timescaledb} gives wrong results in some queries; run "
            f"`ALTER EXTENSION timescaledb UPDATE` on a server that has {floor} or newer"
        )


async def recorded(connection: AsyncConnection) -> Edition | None:
    """The edition that the first migration recorded; None where there is no schema yet."""
    if not (await connection.execute(text(query("schema_exists")))).scalar_one():
        return None
    return Edition((await connection.execute(text(query("recorded_edition")))).scalar_one())


def compare(record: Edition, offer: Offer) -> None:
    """Refuse a database that changed under its schema. Raises WrongEdition: what is wrong, what to do."""
    if record is offer.edition:
        return
    if record is Edition.PLAIN:
        # Installing the extension later changes nothing for a plain schema.
        return
    raise WrongEdition(
        f"this schema was made for the {record} edition and the server now offers {offer}; {_way_back(record, offer)}, "
        "or restore a dump into a new database that has TimescaleDB as the schema needs it"
    )


def _way_back(record: Edition, offer: Offer) -> str:
    """What makes the server offer again what the schema was made for."""
    if offer.timescaledb is None:
        return "the extension timescaledb was dropped from this database: restore the database from a backup"
    if record is Edition.COMMUNITY:
        return (
            "set `timescaledb.license = 'timescale'` in postgresql.conf, on a server whose TimescaleDB is not the "
            "Apache-2 build, and restart it"
        )
    return "set `timescaledb.license = 'apache'` in postgresql.conf and restart it"


def check_first(offer: Offer, wanted: str) -> None:
    """Before a first migration, which decides for good. Raises WrongEdition: two ways are open and nobody chose one."""
    if offer.edition is Edition.PLAIN and offer.at_hand and wanted == "auto":
        raise WrongEdition(
            "this server has TimescaleDB, but the database lacks the extension, and the first migration decides for "
            "good; run `CREATE EXTENSION timescaledb` in it, or set TOLLWATCH_EDITION=plain to do without"
        )
    if offer.edition is not Edition.PLAIN and wanted == "plain":
        raise WrongEdition(
            f"TOLLWATCH_EDITION is plain and the database offers {offer}; use a database without the extension, "
            "or unset it"
        )
