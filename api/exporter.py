"""`GET /metrics`: facts from the database, and what this process tells about itself."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.pool import QueuePool

from api.dependencies import AppState, Credentials, State, authorize
from api.exporter_server import Samples, server_families
from api.exporter_server import own_gauge as _gauge
from api.exporter_snapshots import ReadSnapshot, Snapshots, Taken
from api.exporter_values import HISTOGRAM_WIDTH
from api.problems import documented
from store.metrics_snapshot import Facts, Snapshot
from store.metrics_totals import LATE_SECONDS
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
    scope `metrics` and see its project. Facts were read at most twice `TOLLWATCH_METRICS_INTERVAL` ago; when the
    database is away for longer they are absent. `tollwatch_exporter_database_up` is 0 at once.
    """
    project_id = None
    if credentials is not None or not is_local(request):
        project_id = (await _authorize_metrics(request, held, credentials)).project_id
    snapshots = _snapshots(request, held)
    headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        taken = await snapshots.get(project_id)
        own = await asyncio.to_thread(_own_text, held, snapshots, taken)
        return Response(b"".join((*taken.facts, own)), headers=headers)
    taken = await snapshots.get(project_id, packed=True)
    body = await asyncio.to_thread(_packed_text, held, snapshots, taken)
    return Response(body, headers={**headers, "Content-Encoding": "gzip"})


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the header names gzip, and not as what is refused (`gzip;q=0`)."""
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q=0")
    return False


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
        found = snapshots_of(held, interval=held.settings.metrics_interval.total_seconds())
        request.app.state.exporter = found
    return found


def snapshots_of(held: AppState, *, interval: float, late: float = LATE_SECONDS) -> Snapshots:
    """Snapshots of the state's database, with its limit of series and its deadline."""
    most = held.settings.max_series
    server = ServerReader(held.engine, held.edition)

    def reader(project_id: int | None) -> ReadSnapshot:
        facts = Facts(
            engine=held.engine,
            edition=held.edition,
            project_id=project_id,
            most=most,
            most_latencies=max(1, most // HISTOGRAM_WIDTH),
            statement=held.deadlines.metrics_reading,
            late=late,
        )

        async def read() -> Snapshot:
            return replace(await facts.read(), server=await server.read())

        return read

    return Snapshots(reader, most=most, deadlines=held.deadlines, interval=interval)


async def close_snapshots(app: FastAPI) -> None:
    """End what an application's snapshots do in the background."""
    found: Snapshots | None = getattr(app.state, "exporter", None)
    if found is not None:
        await found.close()


class OwnCollector(Collector):
    """What the exporter tells about its process and its database, made afresh for each scrape."""

    def __init__(self, held: AppState, snapshots: Snapshots, taken: Taken) -> None:
        self._held = held
        self._snapshots = snapshots
        self._taken = taken

    def collect(self) -> Iterable[Metric]:
        """Build, database, rollups, pool, server."""
        build: Samples = {(_version(), str(self._held.edition)): 1.0}
        yield _gauge("build_info", "Version of Tollwatch and edition of its database.", build, "version", "edition")
        yield _gauge(
            "exporter_database_up",
            "1 if the database answered the newest reading, else 0.",
            {(): float(self._taken.is_up)},
        )
        yield _gauge(
            "exporter_snapshot_seconds", "How long the facts took to read and write.", {(): self._taken.seconds}
        )
        age = self._snapshots.age(self._taken)
        ages: Samples = {} if age is None else {(): age}
        yield _gauge("exporter_facts_age_seconds", "How long ago the facts that are told were read.", ages)
        yield CounterMetricFamily(
            "tollwatch_exporter_settled_reads",
            "Readings of all that settled of a relation's totals, since the scope is kept.",
            self._taken.settled_reads,
        )
        kept: Samples = {(): float(self._snapshots.kept_bytes)}
        yield _gauge("exporter_kept_bytes", "Text of facts in memory.", kept)
        lags: Samples = {(rollup,): lag for rollup, lag in self._taken.lags.items()}
        yield _gauge("rollup_lag_seconds", "Age of the oldest change that the rollup lacks.", lags, "rollup")
        pool = self._held.engine.pool
        assert isinstance(pool, QueuePool)
        connections: Samples = {("in_use",): float(pool.checkedout()), ("idle",): float(pool.checkedin())}
        yield _gauge("db_pool_connections", "Database connections of this process.", connections, "state")
        yield from server_families(self._taken.server)


def _own_text(held: AppState, snapshots: Snapshots, taken: Taken) -> bytes:
    return generate_latest(OwnCollector(held, snapshots, taken)) + generate_latest(held.registry)


def _packed_text(held: AppState, snapshots: Snapshots, taken: Taken) -> bytes:
    assert taken.packed is not None
    return taken.packed.with_end(_own_text(held, snapshots, taken))


@cache
def _version() -> str:
    try:
        return version("tollwatch-server")
    except PackageNotFoundError:
        return "unknown"
