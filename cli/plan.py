"""What `tollwatch up` is going to do, decided from settings and arguments before anything is touched."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cli.home import LOGS
from cli.ports import Port
from cli.supervisor import ChildSpec
from store.errors import SettingsError
from store.settings import SANDBOX_KEY, SANDBOX_PROJECT, Settings

_ANY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 (recognised, not bound)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings as the children will see them; `sandbox_port` is None in production."""

    settings: Settings
    environ: Mapping[str, str]
    sandbox_port: int | None

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded one, which `up` then starts and stops."""
        return self.settings.database_url is None

    @property
    def logs(self) -> Path:
        """The folder of the children's output."""
        return self.settings.home / LOGS

    @property
    def url(self) -> str:
        """The API, as this host reaches it."""
        return _url(self.settings.host, self.settings.port)

    @property
    def collector_url(self) -> str:
        """The collector, likewise."""
        return _url(self.settings.collector_host, self.settings.collector_port)


def make_plan(
    settings: Settings, environ: Mapping[str, str], *, port: int | None = None, sandbox_port: int | None = None
) -> Plan:
    """Arguments go before variables. Raises SettingsError when production has no chain to watch."""
    if sandbox_port is None and not settings.rpc_urls:
        raise SettingsError(
            "--no-sandbox watches a real chain: set TOLLWATCH_RPC_URLS to one or more Solana JSON-RPC endpoints"
        )
    settings = replace(settings, port=port or settings.port, sandbox=sandbox_port is not None)
    if not environ.get("TOLLWATCH_COLLECTOR_PORT"):
        settings = replace(settings, collector_port=settings.port + 1)
    if sandbox_port is not None:
        settings = replace(settings, rpc_urls=(f"http://127.0.0.1:{sandbox_port}",))
    return Plan(settings=settings, environ=environ, sandbox_port=sandbox_port)


def ports_of(plan: Plan) -> list[Port]:
    """Every port that the children will listen on."""
    settings = plan.settings
    api = Port(what="the API", host=settings.host, number=settings.port, setting="TOLLWATCH_PORT (make: PORT=)")
    collector = Port(
        what="the collector's metrics",
        host=settings.collector_host,
        number=settings.collector_port,
        setting="TOLLWATCH_COLLECTOR_PORT",
    )
    sandbox = [
        Port(
            what=what, host="127.0.0.1", number=plan.sandbox_port + step, setting="--sandbox-port (make: SANDBOX_PORT=)"
        )
        for step, what in enumerate(
            ("the sandbox's chain", "the sandbox's facilitator", "the sandbox's market", "the sandbox's knowledge API")
        )
        if plan.sandbox_port is not None
    ]
    return [api, collector, *sandbox]


def children_of(plan: Plan, database_url: str) -> list[ChildSpec]:
    """The child processes, in the order in which they are stopped: first what sends, last what receives."""
    own = (sys.executable, "-m", "cli")
    commands: dict[str, tuple[str, ...]] = {
        "collector": (*own, "collector", "--exit-with-stdin"),
        "api": (*own, "api", "--exit-with-stdin"),
    }
    if plan.sandbox_port is not None:
        sandbox = (sys.executable, "-m", "sandbox", "--port", str(plan.sandbox_port), "--tollwatch-url", plan.url)
        commands = {"sandbox": (*sandbox, "--exit-with-stdin"), **commands}
    environ = _child_environ(plan, database_url)
    return [
        ChildSpec(name=name, command=command, environ=environ, output=plan.logs / f"{name}.log")
        for name, command in commands.items()
    ]


def describe_plan(plan: Plan, database: str) -> str:
    """What is said to the operator once it runs."""
    rows = [
        ("Tollwatch", f"{plan.url}  (docs /docs, metrics /metrics)"),
        ("collector", f"{plan.collector_url}/metrics"),
    ]
    if plan.sandbox_port is not None:
        for step, name in enumerate(("chain", "facilitator", "market", "knowledge")):
            rows.append((name, f"http://127.0.0.1:{plan.sandbox_port + step}" + ("  (Solana JSON-RPC)" * (not step))))
    else:
        rows.append(("chain", f"{plan.settings.network}, {len(plan.settings.rpc_urls)} endpoint(s)"))
    rows += [("database", database), ("output", f"{plan.logs}/")]
    if plan.sandbox_port is not None:
        rows.append(("sandbox", f"yes: not real money (project {SANDBOX_PROJECT}, key {SANDBOX_KEY})"))
    return "\n".join(f"{name:<12} {value}" for name, value in rows) + "\nCtrl-C to stop."


def _child_environ(plan: Plan, database_url: str) -> dict[str, str]:
    settings = plan.settings
    environ = {
        **plan.environ,
        "TOLLWATCH_DATABASE_URL": database_url,
        "TOLLWATCH_PORT": str(settings.port),
        "TOLLWATCH_COLLECTOR_PORT": str(settings.collector_port),
        "TOLLWATCH_SANDBOX": "true" if settings.sandbox else "false",
        "PYTHONUNBUFFERED": "1",
    }
    if settings.sandbox:
        environ["TOLLWATCH_RPC_URLS"] = ",".join(settings.rpc_urls)
        if not environ.get("TOLLWATCH_SAMPLE_INTERVAL"):
            environ["TOLLWATCH_SAMPLE_INTERVAL"] = "2s"
    return environ


def _url(host: str, port: int) -> str:
    reachable = "127.0.0.1" if host in _ANY_ADDRESS else host
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
