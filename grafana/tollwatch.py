"""*Tollwatch itself*: whether it takes in, samples, rolls up and tells, from Prometheus."""

from __future__ import annotations

from typing import Any

from grafana.boards import Board, Variable
from grafana.looks import color
from grafana.panels import Panel, Section, prom_panel
from grafana.sdk import PROMETHEUS

INSTANCE = Variable(
    name="instance",
    description="Instances of the API and of the collector.",
    query='label_values({__name__=~"tollwatch_build_info|tollwatch_sample_lag_seconds"}, instance)',
)
HERE = 'instance=~"$instance"'
GOOD_BAD = {"/(^| )(ok|accepted)$/": color("green"), "/(^| )(failed|rejected)$/": color("red")}


def board() -> Board:
    """The dashboard."""
    return Board(
        uid="tollwatch-self",
        title="Tollwatch itself",
        description="Ingest, sampling, nodes, rollups, jobs, connections and the exporter.",
        plugin=PROMETHEUS,
        since="6h",
        refresh="30s",
        variables=(INSTANCE,),
        items=[*_now(), *_ingest(), *_sampling(), *_nodes(), *_database()],
    )


def _now() -> list[Panel]:
    common: dict[str, Any] = {"width": 4, "height": 4}
    return [
        prom_panel(
            "stat",
            f"min(tollwatch_exporter_database_up{{{HERE}}})",
            id=1,
            title="Database",
            description="1: every API instance reaches it. 0: ingest spools or answers 503; bring PostgreSQL back "
            "first.",
            steps=((None, "red"), (1, "green")),
            **common,
        ),
        prom_panel(
            "stat",
            f"max(tollwatch_sample_lag_seconds{{{HERE}}})",
            id=2,
            title="Sample lag",
            description="Age of the newest balances. Over 2 min nothing is sampled: look at the nodes, then at the "
            "database.",
            unit="s",
            decimals=0,
            steps=((None, "green"), (60, "orange"), (120, "red")),
            **common,
        ),
        prom_panel(
            "stat",
            f"max(tollwatch_rollup_lag_seconds{{{HERE}}})",
            id=3,
            title="Rollup lag",
            description="How far hourly reads are behind. Over 60 s they promise more than they hold: look at the job "
            "'rollups'.",
            unit="s",
            decimals=0,
            steps=((None, "green"), (60, "red")),
            **common,
        ),
        prom_panel(
            "stat",
            f'sum(increase(tollwatch_ingest_events_total{{{HERE}, result="rejected"}}[$__range]))',
            id=4,
            title="Rejected events",
            description="Over the range. They are not stored: correct whoever sends them, by the codes below.",
            decimals=0,
            steps=((None, "green"), (1, "orange")),
            **common,
        ),
        prom_panel(
            "stat",
            f'sum(increase(tollwatch_job_runs_total{{{HERE}, outcome=~"failed|timeout"}}[$__range]))',
            id=5,
            title="Failed job runs",
            description="Over the range. The collector logs job_failed with the reason.",
            decimals=0,
            steps=((None, "green"), (1, "orange")),
            **common,
        ),
        prom_panel(
            "stat",
            f"sum(max without (instance) (tollwatch_exporter_series_dropped{{{HERE}}}))",
            id=6,
            title="Series left out",
            description="Alerts cannot see them. Raise TOLLWATCH_MAX_SERIES, or archive agents that are no longer "
            "used.",
            steps=((None, "green"), (1, "orange")),
            **common,
        ),
    ]


def _ingest() -> list[Panel | Section]:
    events = f"tollwatch_ingest_events_total{{{HERE}"
    return [
        Section(id=10, title="Ingest"),
        prom_panel(
            "lines",
            f"sum by (type, result) (rate({events}}}[$__rate_interval]))",
            legends=["{{type}} {{result}}"],
            id=11,
            title="Events",
            description="Events a second by type and result. Many duplicates: a client does not believe the answers "
            "it gets.",
            width=12,
            unit="eps",
            series=GOOD_BAD,
        ),
        prom_panel(
            "bars",
            f'sum by (type, code) (increase({events}, result="rejected"}}[$__rate_interval]))',
            legends=["{{type}} {{code}}"],
            id=12,
            title="Rejections by code",
            description="unknown_agent: register it; too_late: the client held events back; others are faults of the "
            "client.",
            width=12,
        ),
    ]


def _sampling() -> list[Panel | Section]:
    common: dict[str, Any] = {"width": 8}
    return [
        Section(id=20, title="Sampling"),
        prom_panel(
            "lines",
            f"max by (instance) (tollwatch_sample_lag_seconds{{{HERE}}})",
            legends=["{{instance}}"],
            id=21,
            title="Sample lag",
            description="A saw of TOLLWATCH_SAMPLE_INTERVAL is well. A ramp is a collector that writes nothing.",
            unit="s",
            **common,
        ),
        prom_panel(
            "lines",
            f"sum by (result) (rate(tollwatch_samples_total{{{HERE}}}[$__rate_interval]))",
            f"sum by (reason) (rate(tollwatch_samples_refused_total{{{HERE}}}[$__rate_interval]))",
            f"sum by (outcome) (rate(tollwatch_sample_batches_total{{{HERE}}}[$__rate_interval]))",
            legends=["samples {{result}}", "refused {{reason}}", "batches {{outcome}}"],
            id=22,
            title="Samples and batches",
            description="A second. known: another collector samples too. refused: an account is not what its mint "
            "says.",
            unit="cps",
            **common,
        ),
        prom_panel(
            "steps",
            f"max(tollwatch_sample_wallets{{{HERE}}})",
            f"max(tollwatch_sample_wallets_skipped{{{HERE}}})",
            f"max by (asset) (tollwatch_sample_asset_refused{{{HERE}}}) == 1",
            legends=["sampled", "left out", "asset refused: {{asset}}"],
            id=23,
            title="Wallets",
            description="left out: raise TOLLWATCH_MAX_WALLETS. asset refused: its mint on the chain is not what the "
            "table says.",
            series={"/^left out$/": color("red"), "/^asset refused/": color("red")},
            **common,
        ),
    ]


def _nodes() -> list[Panel | Section]:
    calls = f"tollwatch_rpc_requests_total{{{HERE}"
    durations = f"rate(tollwatch_rpc_duration_seconds_bucket{{{HERE}}}[$__rate_interval])"
    common: dict[str, Any] = {"width": 8}
    return [
        Section(id=30, title="Solana nodes"),
        prom_panel(
            "lines",
            f"sum by (endpoint, outcome) (rate({calls}}}[$__rate_interval]))",
            legends=["{{endpoint}} {{outcome}}"],
            id=31,
            title="Calls by endpoint and outcome",
            description="Every try. rate_limited: slow down or pay; wrong_chain: TOLLWATCH_NETWORK and the URL "
            "disagree.",
            unit="reqps",
            series=GOOD_BAD,
            **common,
        ),
        prom_panel(
            "lines",
            f'sum by (endpoint) (rate({calls}, outcome!~"ok|cancelled"}}[$__rate_interval])) '
            f'/ (sum by (endpoint) (rate({calls}, outcome!="cancelled"}}[$__rate_interval])) > 0)',
            legends=["{{endpoint}}"],
            id=32,
            title="Failing calls",
            description="Share of the tries. Over half for long: take the endpoint out of TOLLWATCH_RPC_URLS.",
            unit="percentunit",
            maximum=1,
            **common,
        ),
        prom_panel(
            "lines",
            f"histogram_quantile(0.5, sum by (endpoint, le) ({durations}))",
            f"histogram_quantile(0.95, sum by (endpoint, le) ({durations}))",
            legends=["{{endpoint}} p50", "{{endpoint}} p95"],
            id=33,
            title="Latency, p50 and p95",
            description="Of one try. If the first endpoint is the slow one, put another before it.",
            unit="s",
            **common,
        ),
    ]


def _database() -> list[Panel | Section]:
    # Prometheus keeps its own word `job` for the target; a job of the collector arrives as exported_job.
    runs = f"tollwatch_job_runs_total{{{HERE}}}"
    durations = f"rate(tollwatch_job_duration_seconds_bucket{{{HERE}}}[$__rate_interval])"
    last = f"tollwatch_job_last_success_timestamp_seconds{{{HERE}}}"
    common: dict[str, Any] = {"width": 8}
    return [
        Section(id=40, title="Rollups, jobs, connections, exporter"),
        prom_panel(
            "lines",
            f"max by (rollup) (tollwatch_rollup_lag_seconds{{{HERE}}})",
            legends=["{{rollup}}"],
            id=41,
            title="Rollup lag",
            description="Age of the oldest change that a rollup lacks. Under 60 s is what reads promise.",
            unit="s",
            **common,
        ),
        prom_panel(
            "bars",
            f"sum by (exported_job, outcome) (increase({runs}[$__rate_interval]))",
            legends=["{{exported_job}} {{outcome}}"],
            id=42,
            title="Job runs",
            description="skipped: a run took longer than its interval. failed or timeout: see the collector's log.",
            **common,
        ),
        prom_panel(
            "lines",
            f"time() - max by (exported_job) ({last} > 0)",
            legends=["{{exported_job}}"],
            id=43,
            title="Since the last success",
            description="Of each job. partitions and retention run hourly: over two hours inserts may soon fail.",
            unit="s",
            **common,
        ),
        prom_panel(
            "lines",
            f"histogram_quantile(0.95, sum by (exported_job, le) ({durations}))",
            legends=["{{exported_job}}"],
            id=44,
            title="Job duration, p95",
            description="A job that nears its interval will skip runs.",
            unit="s",
            **common,
        ),
        prom_panel(
            "lines",
            f"sum by (instance, state) (tollwatch_db_pool_connections{{{HERE}}})",
            legends=["{{instance}} {{state}}"],
            id=45,
            title="Database connections",
            description="in_use at TOLLWATCH_POOL_SIZE for long: requests wait. Add an instance or raise the pool.",
            **common,
        ),
        prom_panel(
            "lines",
            f"max by (instance) (tollwatch_exporter_snapshot_seconds{{{HERE}}})",
            f"min by (instance) (tollwatch_exporter_database_up{{{HERE}}})",
            legends=["{{instance}} snapshot, s", "{{instance}} database up"],
            id=46,
            title="Exporter",
            description="How long facts take to read for /metrics. Near the scrape timeout: lower "
            "TOLLWATCH_MAX_SERIES.",
            **common,
        ),
        prom_panel(
            "table",
            f"max by (family) (tollwatch_exporter_series_dropped{{{HERE}}}) > 0",
            id=47,
            title="Series left out, by family",
            description="Empty is well. Alerts cannot see these series.",
            width=12,
            height=6,
        ),
        prom_panel(
            "table",
            f"max by (instance, version, edition) (tollwatch_build_info{{{HERE}}})",
            id=48,
            title="Versions and editions",
            description="One line per API instance. All of one version, unless an upgrade is under way.",
            width=12,
            height=6,
        ),
    ]
