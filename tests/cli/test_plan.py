"""What `up` would do: settings, ports, the children's environment, and what the operator is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.plan import Plan, children_of, describe_plan, make_plan, ports_of
from store.errors import SettingsError
from store.settings import Settings

DATABASE = "postgresql://me:secret@db/tollwatch"


def plan(environ: dict[str, str] | None = None, **arguments: int | None) -> Plan:
    environ = environ or {}
    return make_plan(Settings.from_env(environ), environ, **{"port": None, "sandbox_port": 8899} | arguments)


def numbers(made: Plan) -> list[int]:
    return [port.number for port in ports_of(made)]


def test_ports_follow_the_arguments() -> None:
    assert numbers(plan()) == [8402, 8403, 8899, 8900, 8901, 8902]
    assert numbers(plan(port=9000, sandbox_port=7000)) == [9000, 9001, 7000, 7001, 7002, 7003]
    assert numbers(plan({"TOLLWATCH_PORT": "9000"})) == [9000, 9001, 8899, 8900, 8901, 8902]
    assert numbers(plan({"TOLLWATCH_COLLECTOR_PORT": "9000"}))[:2] == [8402, 9000]
    assert numbers(plan({"TOLLWATCH_RPC_URLS": "http://rpc"}, sandbox_port=None)) == [8402, 8403]


def test_the_sandbox_replaces_the_chain_and_is_marked() -> None:
    made = plan({"TOLLWATCH_RPC_URLS": "http://rpc", "OTHER": "kept"})
    specs = children_of(made, DATABASE)
    assert [spec.name for spec in specs] == ["sandbox", "collector", "api"]
    assert specs[0].command == (
        *(sys.executable, "-m", "sandbox", "--port", "8899", "--tollwatch-url", "http://127.0.0.1:8402"),
        "--exit-with-stdin",
    )
    assert specs[2].command == (sys.executable, "-m", "cli", "api", "--exit-with-stdin")
    assert specs[2].output == Path(".tollwatch/log/api.log")
    environ = specs[2].environ
    assert environ["OTHER"] == "kept"
    assert Settings.from_env(environ) == made.settings.__class__.from_env(
        {
            "TOLLWATCH_DATABASE_URL": DATABASE,
            "TOLLWATCH_SANDBOX": "true",
            "TOLLWATCH_RPC_URLS": "http://127.0.0.1:8899",
            "TOLLWATCH_SAMPLE_INTERVAL": "2s",
        }
    )


def test_an_interval_that_the_operator_chose_stays() -> None:
    made = plan({"TOLLWATCH_SAMPLE_INTERVAL": "5s"})
    assert children_of(made, DATABASE)[0].environ["TOLLWATCH_SAMPLE_INTERVAL"] == "5s"


def test_production_has_no_sandbox_whatever_the_variable_says() -> None:
    made = plan({"TOLLWATCH_RPC_URLS": "http://rpc", "TOLLWATCH_SANDBOX": "true"}, sandbox_port=None)
    specs = children_of(made, DATABASE)
    assert [spec.name for spec in specs] == ["collector", "api"]
    settings = Settings.from_env(specs[0].environ)
    assert not settings.sandbox
    assert settings.rpc_urls == ("http://rpc",)
    assert settings.sample_interval == Settings().sample_interval


def test_production_needs_a_chain() -> None:
    with pytest.raises(SettingsError, match="TOLLWATCH_RPC_URLS"):
        plan(sandbox_port=None)


def test_the_operator_is_told_where_everything_is() -> None:
    assert describe_plan(plan(), "embedded") == (
        "Tollwatch    http://127.0.0.1:8402  (docs /docs, metrics /metrics)\n"
        "collector    http://127.0.0.1:8403/metrics\n"
        "chain        http://127.0.0.1:8899  (Solana JSON-RPC)\n"
        "facilitator  http://127.0.0.1:8900\n"
        "market       http://127.0.0.1:8901\n"
        "knowledge    http://127.0.0.1:8902\n"
        "database     embedded\n"
        "output       .tollwatch/log/\n"
        "sandbox      yes: not real money (project sandbox, key tollwatch-dev)\n"
        "Ctrl-C to stop."
    )


def test_endpoints_with_their_keys_are_not_printed() -> None:
    text = describe_plan(plan({"TOLLWATCH_RPC_URLS": "http://rpc/?api-key=secret"}, sandbox_port=None), "db:5432")
    assert "secret" not in text
    assert "sandbox" not in text


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:8402"), ("::1", "http://[::1]:8402"), ("h", "http://h:8402")]
)
def test_the_url_is_one_that_this_host_can_use(host: str, url: str) -> None:
    assert plan({"TOLLWATCH_HOST": host}).url == url
