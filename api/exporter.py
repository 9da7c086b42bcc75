"""`GET /metrics`: facts from the database, and what this process tells about itself."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.pool import QueuePool

from api.dependencies import AppState, Credentials, State, authorize
from api.exporter_server import Samples, server_families
from api.exporter_server import own_gauge as _gauge
from api.exporter_snapshots import Snapshots, Taken
from api.problems import documented
from store import metrics_snapshot
from store.server import ServerReader

router = APIRouter(tags=["exporter"])

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_authorize_metrics = authorize("metrics")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Exposition format 0.0.4"}, **documented(401, 403)},
)
async def metrics(request: Request, held: State, credentials: Credentials) -> Response:
    """Metrics for Prometheus. A client on this machine needs no key and sees every project; others need one with the
    scope `metrics` and see its project. While the database is away facts are absent and
    `tollwatch_exporter_database_up` is 0.
    """
    project_id = None
    if credentials is not None or not is_local(request):
        project_id = (await _authorize_metrics(request, held, credentials)).project_id
    taken = await _snapshots(request, held).get(project_id)
    own = await asyncio.to_thread(_own_text, held, taken)
    return Response(taken.facts + own, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"})


def is_local(request: Request) -> bool:
    """Whether the connection itself comes from this machine, and speaks for nobody else.

    Headers can only take that away: a proxy's client is not local, nor is a page whose name somebody made point here.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback and _cannot_be_rebound(request.headers.get("host", ""))


def _cannot_be_rebound(host: str) -> bool:
    """A name without a dot, or an address: nobody elsewhere can make it resolve to this machine."""
    try:
        name = urlsplit("//" + host).hostname or ""
    except ValueError:
        return False
    if "." not in name:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _snapshots(request: Request, held: AppState) -> Snapshots:
    """The process's snapshots, made at the first scrape."""
    found: Snapshots | None = getattr(request.app.state, "exporter", None)
    if found is None:
        found = snapshots_of(held)
        request.app.state.exporter = found
    return found


def snapshots_of(held: AppState, **options: float) -> Snapshots:
    """Snapshots of the state's database, with its limit of series and its deadline."""
    most = held.settings.max_series
    server = ServerReader(held.engine, held.edition)

    async def read(project_id: int | None) -> metrics_snapshot.Snapshot:
        facts = await metrics_snapshot.read(held.engine, held.edition, project_id=project_id, most=most)
        return replace(facts, server=await server.read())

    return Snapshots(read, most=most, deadline=held.deadlines.read_statement, **options)


class OwnCollector(Collector):
    """What the exporter tells about its process and its database, made afresh for each scrape."""

    def __init__(self, held: AppState, taken: Taken) -> None:
        self._held = held
        self._taken = taken

    def collect(self) -> Iterable[Metric]:
        """Build, database, rollups, pool, server."""
        build: Samples = {(_version(), str(self._held.edition)): 1.0}
        yield _gauge("build_info", "Version of Tollwatch and edition of its database.", build, "version", "edition")
        yield _gauge("exporter_database_up", "1 if the database answered, else 0.", {(): float(self._taken.is_up)})
        yield _gauge("exporter_snapshot_seconds", "How long the facts took to read.", {(): self._taken.seconds})
        lags: Samples = {(rollup,): lag for rollup, lag in self._taken.lags.items()}
        yield _gauge("rollup_lag_seconds", "Age of the oldest change that the rollup lacks.", lags, "rollup")
        pool = self._held.engine.pool
        assert isinstance(pool, QueuePool)
        connections: Samples = {("in_use",): float(pool.checkedout()), ("idle",): float(pool.checkedin())}
        yield _gauge("db_pool_connections", "Database connections of this process.", connections, "state")
        yield from server_families(self._taken.server)


def _own_text(held: AppState, taken: Taken) -> bytes:
    return generate_latest(OwnCollector(held, taken)) + generate_latest(held.registry)


@cache
def _version() -> str:
    try:
        return version("tollwatch-server")
    except PackageNotFoundError:
        return "unknown"
