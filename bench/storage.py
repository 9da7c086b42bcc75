"""`make bench-storage`: bytes per row of each relation, indexes included, as rows and in columnstore.

Both are of the same chunks: TimescaleDB keeps the size that a chunk had before it became columnstore. Beside them
stands the entropy of what is random in a row, which no storage can go below: 74 bits of each UUIDv7 (its other bits are
the millisecond, which `ts` has too, and constants), 512 of a signature, 256 of a digest. A value that is told again (a
payment's id on its second transition) is random once only, so distinct values are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.common import Printer, database, patient_engine, prepare
from bench.data import Recipe, ensure, statements
from store.edition import Edition
from store.engine import reading
from store.horizons import RELATIONS
from store.settings import Settings

UUID7_BITS = 74
RANDOM_BITS: Mapping[str, Mapping[str, int]] = {
    "payments": {"id": UUID7_BITS, "payment_id": UUID7_BITS, "request_id": UUID7_BITS, "signature": 512},
    "api_requests": {"id": UUID7_BITS, "request_id": UUID7_BITS, "payment_id": UUID7_BITS, "response_digest": 256},
    "audit_events": {"id": UUID7_BITS, "request_id": UUID7_BITS},
    "queue_events": {"id": UUID7_BITS, "request_id": UUID7_BITS},
    "balance_samples": {},
}
"""Relation → bits of each column that are random by what they are, not by what agents do."""


def main() -> None:
    """Make the data, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000, help="rows of each of the three large relations")
    parser.add_argument("--days", type=int, default=30, help="days that they lie in")
    parser.add_argument("--digests", type=float, default=0.0, help="share of answered attempts that carry a digest")
    arguments = parser.parse_args()
    with database(dict(os.environ)) as settings:
        asyncio.run(_run(settings, Recipe(size=arguments.size, days=arguments.days, digests=arguments.digests)))


async def _run(settings: Settings, recipe: Recipe) -> None:
    edition = await prepare(settings)
    await ensure(settings, edition, recipe)
    engine = patient_engine(settings)
    printer = Printer(bench="storage", edition=edition.value, size=recipe.size)
    try:
        async with reading(engine) as connection:
            for relation in RELATIONS:
                sizes = await _sizes(connection, edition, relation.name)
                if sizes["rows"]:
                    _print(printer, relation.name, sizes, await _entropy(connection, relation.name, sizes), recipe)
    finally:
        await engine.dispose()


async def _sizes(connection: AsyncConnection, edition: Edition, relation: str) -> RowMapping:
    """Rows, bytes as rows, bytes in columnstore (None: not on this edition), and the range that they are of."""
    name = {Edition.COMMUNITY: "columnstore_sizes", Edition.APACHE: "chunk_sizes", Edition.PLAIN: "partition_sizes"}[
        edition
    ]
    found = text(statements()[name].replace("{relation}", relation))
    return (await connection.execute(found)).mappings().one()


async def _entropy(connection: AsyncConnection, relation: str, sizes: RowMapping) -> float | None:
    """Bytes per row that are random; None: nothing is."""
    bits = RANDOM_BITS[relation]
    if not bits:
        return None
    counts = ", ".join(f"count(DISTINCT {column}) AS {column}" for column in bits)
    source = statements()["distinct_values"].replace("{relation}", relation).replace("{counts}", counts)
    values = {"from_ts": sizes["from_ts"], "to_ts": sizes["to_ts"]}
    found = (await connection.execute(text(source), values)).mappings().one()
    return sum(bits[column] * int(found[column]) for column in bits) / 8 / int(sizes["rows"])


def _print(printer: Printer, relation: str, sizes: RowMapping, entropy: float | None, recipe: Recipe) -> None:
    rows, row_bytes, column_bytes = int(sizes["rows"]), int(sizes["row_bytes"]), sizes["column_bytes"]
    figures: dict[str, object] = {"measured_rows": rows, "bytes_per_row": round(row_bytes / rows, 1)}
    if column_bytes is not None:
        figures["columnstore_bytes_per_row"] = round(int(column_bytes) / rows, 1)
        figures["ratio_columnstore_to_rows"] = round(int(column_bytes) / row_bytes, 4)
    if entropy is not None:
        figures["entropy_bytes_per_row"] = round(entropy, 1)
        if column_bytes is not None:
            figures["ratio_columnstore_to_entropy"] = round(int(column_bytes) / rows / entropy, 3)
    if relation == "api_requests":
        figures["ratio_with_digest"] = recipe.digests
    printer.line(relation, **figures)


if __name__ == "__main__":
    main()
