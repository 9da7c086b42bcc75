"""The SQL of panels and variables: `queries/<dashboard>.sql`, each statement named and described.

-- name: low_wallets
-- Balances below their threshold.
SELECT …
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "queries"
_NAME = re.compile(r"^-- name: (\w+)\n((?:-- .*\n)+)", re.MULTILINE)


@cache
def statements(file: str) -> dict[str, str]:
    """Every statement of one file by its name, without comments. Raises LookupError: a name is there twice."""
    _, *parts = _NAME.split((FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    names, texts = parts[::3], parts[2::3]
    if len(set(names)) < len(names):
        raise LookupError(f"{file}.sql: a name is there twice")
    return {name: text.strip() for name, text in zip(names, texts, strict=True)}


def statement(path: str) -> str:
    """One statement by `file.name`. Raises LookupError."""
    file, name = path.split(".")
    return statements(file)[name]
