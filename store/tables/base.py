"""What all tables share: metadata, column types, checks, common columns."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, DateTime, ForeignKey, Integer, MetaData, Text, text

from store.tables.words import SCHEMA

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    },
)

Instant = DateTime(timezone=True)
Word = Text(collation="C")
NOW = text("now()")


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Only these values; named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def finite(column: str = "ts") -> CheckConstraint:
    """No infinity: partitions have bounds."""
    return CheckConstraint(f"isfinite({column})", name=f"{column}_finite")


def not_negative(column: str) -> CheckConstraint:
    """Zero or more."""
    return CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative")


def kept() -> list[Column[object]]:
    """What every plain table has: rows are archived, not deleted."""
    return [
        Column("created_at", Instant, nullable=False, server_default=NOW),
        Column("updated_at", Instant, nullable=False, server_default=NOW),
        Column("archived_at", Instant),
    ]


def positive(column: str) -> CheckConstraint:
    """More than zero, or NULL."""
    return CheckConstraint(f"{column} > 0", name=f"{column}_positive")


def project(*, primary_key: bool = False) -> Column[int]:
    """Whose row it is."""
    return Column("project_id", Integer, ForeignKey(f"{SCHEMA}.projects.id"), nullable=False, primary_key=primary_key)


def said() -> list[Column[object]]:
    """Who says so, and since when we know."""
    return [
        Column("origin", Word, nullable=False),
        Column("recorded_at", Instant, nullable=False, server_default=NOW),
    ]
