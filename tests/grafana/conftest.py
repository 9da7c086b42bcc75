"""The story, told once per edition; dashboards as they are committed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.databases import Server
from tests.grafana.story import told


@pytest.fixture(scope="module")
def reader(server: Server) -> Iterator[psycopg.Connection]:
    """A connection as the reader of the story's project."""
    with told(server) as connection:
        yield connection
