"""Plays a later release: this code and one more revision, which changes what services use while they serve.

with next_release(): await migrate.upgrade(…)
python -m tests.store.next_release upgrade         TOLLWATCH_DATABASE_URL, as `tollwatch migrate` of that release
python -m tests.store.next_release downgrade 0001
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store import migrate

NEXT = "9999"
_present = migrate.alembic_config


def _later():
    config = _present()
    own = Path(config.get_main_option("script_location")) / "versions"
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", f"{own}:{Path(__file__).parent / 'versions'}")
    return config


@contextmanager
def next_release() -> Iterator[None]:
    """Inside the block this process is the later release."""
    migrate.alembic_config = _later
    try:
        yield
    finally:
        migrate.alembic_config = _present
