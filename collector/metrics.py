"""What the collector tells Prometheus about itself: every family is declared here, on a registry that is given."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

RPC_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOB_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0)
JOB_OUTCOMES = ("ok", "failed", "timeout", "skipped")


class RpcMetrics:
    """Every try at every endpoint; `endpoint` is host:port, never more of a URL."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "tollwatch_rpc_requests",
            "JSON-RPC calls to Solana nodes, every try of them, by how they ended.",
            ("endpoint", "method", "outcome"),
            registry=registry,
        )
        self._duration = Histogram(
            "tollwatch_rpc_duration_seconds",
            "Duration of one try of a JSON-RPC call.",
            ("endpoint", "method"),
            buckets=RPC_BUCKETS,
            registry=registry,
        )

    def tried(self, endpoint: str, method: str, outcome: str, seconds: float) -> None:
        """One try ended."""
        self._requests.labels(endpoint, method, outcome).inc()
        self._duration.labels(endpoint, method).observe(seconds)


class JobMetrics:
    """Every scheduled run, also those that failed or never began."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._runs = Counter(
            "tollwatch_job_runs",
            "Scheduled runs by outcome; skipped: the tick passed while the run before was still at work.",
            ("job", "outcome"),
            registry=registry,
        )
        self._duration = Histogram(
            "tollwatch_job_duration_seconds", "Duration of a run.", ("job",), buckets=JOB_BUCKETS, registry=registry
        )
        self._last_success = Gauge(
            "tollwatch_job_last_success_timestamp_seconds",
            "When the last run that did all of its work ended; 0: none has yet.",
            ("job",),
            registry=registry,
        )

    def register(self, job: str) -> None:
        """Show a job's series before its first run, so that rates and alerts have a beginning."""
        for outcome in JOB_OUTCOMES:
            self._runs.labels(job, outcome)
        self._duration.labels(job)
        self._last_success.labels(job)

    def ran(self, job: str, outcome: str, seconds: float) -> None:
        """One run ended, well or not."""
        self._runs.labels(job, outcome).inc()
        self._duration.labels(job).observe(seconds)

    def succeeded(self, job: str, timestamp: float) -> None:
        """A run ended well, at that Unix time."""
        self._last_success.labels(job).set(timestamp)

    def skipped(self, job: str, ticks: int = 1) -> None:
        """Ticks passed without a run."""
        self._runs.labels(job, "skipped").inc(ticks)


class SampleMetrics:
    """What the balance source reads, writes, refuses and leaves."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._newest = clock()
        self._samples = _counter(registry, "tollwatch_samples", "Balance samples written; known: were there.", "result")
        self._refused = _counter(
            registry, "tollwatch_samples_refused", "Accounts whose answer could not become a sample.", "reason"
        )
        self._batches = _counter(registry, "tollwatch_sample_batches", "Batches of up to 100 accounts read.", "outcome")
        self._wallets = _gauge(registry, "tollwatch_sample_wallets", "Wallets that the last run sampled.")
        self._left = _gauge(
            registry, "tollwatch_sample_wallets_skipped", "Wallets left out, being more than TOLLWATCH_MAX_WALLETS."
        )
        self._assets = Gauge(
            "tollwatch_sample_asset_refused",
            "1: the asset is not sampled, its mint on the chain is not what the assets table says.",
            ("asset",),
            registry=registry,
        )
        lag = _gauge(registry, "tollwatch_sample_lag_seconds", "Age of the newest tick that was written (or start).")
        lag.set_function(lambda: max(0.0, clock() - self._newest))
        for result in ("new", "known"):
            self._samples.labels(result)
        for outcome in ("ok", "failed"):
            self._batches.labels(outcome)

    def planned(self, wallets: int, total: int) -> None:
        """A run takes `wallets` of `total`."""
        self._wallets.set(wallets)
        self._left.set(total - wallets)

    def read(self, *, ok: int, failed: int) -> None:
        """Batches that were answered, and that were not."""
        self._batches.labels("ok").inc(ok)
        self._batches.labels("failed").inc(failed)

    def refused(self, reason: str) -> None:
        """One account's answer was refused."""
        self._refused.labels(reason).inc()

    def written(self, *, new: int, known: int) -> None:
        """Samples that a write stored, and that were there already."""
        self._samples.labels("new").inc(new)
        self._samples.labels("known").inc(known)

    def wrote_tick(self, timestamp: float) -> None:
        """All that a tick has is written; a tick with nothing to sample counts too."""
        self._newest = max(self._newest, timestamp)

    def asset_checked(self, asset: str, *, refused: bool) -> None:
        """Whether an asset may be sampled."""
        self._assets.labels(asset).set(int(refused))


def _counter(registry: CollectorRegistry, name: str, text: str, label: str) -> Counter:
    return Counter(name, text, (label,), registry=registry)


def _gauge(registry: CollectorRegistry, name: str, text: str) -> Gauge:
    return Gauge(name, text, registry=registry)
