"""What is refused before anything changes, with what is wrong and what to do: by migrate, api and collector alike."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from api.app import create_app
from collector.daemon import collecting
from store import migrate
from store.errors import DatabaseError, HorizonError, StartRefused, TollwatchError, WrongEdition
from store.settings import Settings
from tests.e2e.stack import Process
from tests.ports import free_ports
from tests.store.catalogue import differences, snapshot

TIMESCALE = ("apache", "community")


async def start_api(settings, deadlines):
    app = create_app(settings, deadlines)
    async with app.router.lifespan_context(app):
        pass


async def start_collector(settings, deadlines):
    async with collecting(replace(settings, rpc_urls=("http://127.0.0.1:1",), collector_port=free_ports(1)), deadlines):
        pass


STARTS = {"migrate": migrate.upgrade, "api": start_api, "collector": start_collector}


async def refusals(settings, deadlines):
    """What each of the three says. Raises when one of them starts."""
    said = {}
    for name, start in STARTS.items():
        with pytest.raises(TollwatchError) as caught:
            await start(settings, deadlines)
        said[name] = caught.value
    return said


@pytest.fixture
def administer(server, database_url):
    """A statement in the test's database, or (`cluster=True`) in the server's own one."""

    def run(statement, *, cluster=False):
        with psycopg.connect(server.admin_url if cluster else database_url, autocommit=True) as connection:
            connection.execute(statement)

    return run


def name_of(database_url):
    return database_url.rsplit("/", 1)[1].partition("?")[0]


@contextmanager
def extension_dropped(administer, _database_url):
    administer("DROP EXTENSION timescaledb CASCADE")
    yield


@contextmanager
def library_missing(administer, _database_url):
    """As after a server's package was downgraded: the loader looks for a file that is not there."""
    administer("UPDATE pg_extension SET extversion = '2.999.0' WHERE extname = 'timescaledb'")
    yield


@contextmanager
def library_not_loaded(administer, database_url):
    administer(f"ALTER DATABASE {name_of(database_url)} SET timescaledb.disable_load = on", cluster=True)
    yield


FAULTS = {
    extension_dropped: (WrongEdition, "the server now offers plain; the extension timescaledb was dropped .* restore"),
    library_missing: (DatabaseError, r"cannot load a library .*timescaledb-2\.999\.0.*; install the version"),
    library_not_loaded: (WrongEdition, "does not load it; set shared_preload_libraries = 'timescaledb'"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_missing_extension_is_refused(fault, database_url, administer, settings, deadlines, edition):
    if edition not in TIMESCALE:
        return
    kind, message = FAULTS[fault]
    with fault(administer, database_url):
        before = own_catalogue(database_url)
        for name, error in (await refusals(settings, deadlines)).items():
            assert isinstance(error, kind), (name, error)
            with pytest.raises(kind, match=message):
                raise error
        assert own_catalogue(database_url) == before


def own_catalogue(database_url):
    """Where TimescaleDB does not load, only pg_catalog can be asked, and not always."""
    try:
        return snapshot(database_url)
    except psycopg.Error as exc:
        return str(exc)


@pytest.mark.editions("community")
async def test_a_community_schema_does_not_run_on_the_apache_licence(server, database_url, settings, deadlines):
    """timescaledb.license flipped in postgresql.conf, in place; flipped back, everything starts again."""
    if server.found.bin_dir is None:
        pytest.skip("a server of somebody else's keeps its licence")
    before = snapshot(database_url)
    flip(server, database_url, "ALTER SYSTEM SET timescaledb.license = 'apache'", "apache")
    try:
        for name, error in (await refusals(settings, deadlines)).items():
            assert isinstance(error, WrongEdition), name
            assert "made for the community edition and the server now offers apache" in str(error)
            assert "set `timescaledb.license = 'timescale'`" in str(error)
    finally:
        flip(server, database_url, "ALTER SYSTEM RESET timescaledb.license", "timescale")
    assert differences(before, snapshot(database_url)) == []
    for start in STARTS.values():
        await start(settings, deadlines)


def flip(server, database_url, statement, expected):
    """New sessions have the licence only once the server has read its configuration."""
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute(statement)
        connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while True:
        with psycopg.connect(database_url) as connection:
            if connection.execute("SELECT current_setting('timescaledb.license')").fetchone() == (expected,):
                return
        assert time.monotonic() < deadline


async def test_a_first_migration_does_not_choose_plain_by_accident(server, edition, database_url, deadlines):
    """A server with TimescaleDB, a database without: the choice is for good, so somebody has to make it."""
    if edition not in TIMESCALE:
        return
    name = server.create()
    url = server.url(name)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP EXTENSION timescaledb")
        before = snapshot(url)
        with pytest.raises(
            WrongEdition, match="run `CREATE EXTENSION timescaledb` in it, or set TOLLWATCH_EDITION=plain"
        ):
            await migrate.upgrade(Settings(database_url=url), deadlines)
        assert snapshot(url) == before
        with pytest.raises(StartRefused, match="run `tollwatch migrate`"):
            await start_api(Settings(database_url=url), deadlines)
        await migrate.upgrade(Settings(database_url=url, edition="plain"), deadlines)
        await start_api(Settings(database_url=url), deadlines)
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT edition FROM tollwatch.schema_info").fetchone() == ("plain",)
    finally:
        server.drop(name)


async def test_plain_is_not_made_in_a_database_that_has_the_extension(empty_database_url, edition, deadlines):
    if edition not in TIMESCALE:
        return
    before = snapshot(empty_database_url)
    with pytest.raises(WrongEdition, match="TOLLWATCH_EDITION is plain and the database offers"):
        await migrate.upgrade(Settings(database_url=empty_database_url, edition="plain"), deadlines)
    assert snapshot(empty_database_url) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollup_window": timedelta(days=8)}, "TOLLWATCH_ROLLUP_WINDOW .* must be at least"),
        ({"columnstore_after": timedelta(days=9)}, "TOLLWATCH_COLUMNSTORE_AFTER .* must be longer"),
        ({"retain_payments": timedelta(days=21)}, "TOLLWATCH_RETAIN_PAYMENTS .* must be longer"),
        ({"retain_rollups": timedelta(days=100)}, "TOLLWATCH_RETAIN_ROLLUPS .* must be at least"),
    ],
)
async def test_contradictory_horizons_are_refused_by_all_three(change, message, settings, database_url, deadlines):
    before = snapshot(database_url)
    for error in (await refusals(replace(settings, **change), deadlines)).values():
        assert isinstance(error, HorizonError)
        with pytest.raises(HorizonError, match=message):
            raise error
    assert snapshot(database_url) == before


@pytest.mark.parametrize("command", ["migrate", "api", "collector"])
def test_a_refusal_is_one_line_and_an_exit_code(command, plain_server, tmp_path):
    database = plain_server.clone()
    url = plain_server.url(database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE tollwatch.schema_info SET edition = 'community'")
    environ = {"TOLLWATCH_DATABASE_URL": url, "TOLLWATCH_RPC_URLS": "http://127.0.0.1:1"}
    process = Process(command, ["cli", command], tmp_path, **environ, TOLLWATCH_PORT=str(free_ports(1)))
    try:
        assert process.popen.wait(60) == 1
    finally:
        process.stop()
        plain_server.drop(database)
    (line,) = process.text().splitlines()
    assert line.startswith("tollwatch: this schema was made for the community edition and the server now offers plain;")
