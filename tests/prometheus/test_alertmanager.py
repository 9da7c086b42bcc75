"""Alertmanager: who is told, what is held back, and the scripts that put secrets where the two programs read them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import yaml

from tests.ports import free_ports
from tests.programs import tool
from tests.prometheus.files import PROMETHEUS, alert_names, alerts, load, run

CONFIGURATION = PROMETHEUS / "alertmanager.yml"
START_S = 20
WHOSE = {"environment": "production", "project": "acme", "agent": "buyer", "network": "solana:x"}


def test_alertmanager_accepts_the_configuration():
    run("amtool", "check-config", CONFIGURATION)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"severity": "critical", "project": "acme"}, "operators"),
        ({"severity": "warning", "project": "acme"}, "operators"),
        ({"severity": "critical"}, "operators"),
        ({"severity": "critical", "project": "sandbox"}, "nobody"),
        ({"severity": "warning", "project": "sandbox"}, "nobody"),
    ],
)
def test_who_is_told(labels, receiver):
    told = run(
        "amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}", *(f"{k}={v}" for k, v in labels.items())
    )
    assert told.split() == [receiver]


def test_notifications_are_grouped_by_whose_they_are():
    assert {"project", "agent", "alertname"} <= set(load(CONFIGURATION)["route"]["group_by"])


def test_inhibitions_name_alerts_that_exist():
    named = set(re.findall(r"Tollwatch\w+", json.dumps(load(CONFIGURATION)["inhibit_rules"])))
    assert named <= set(alert_names())


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory):
    """Alertmanager itself, with our configuration; gives its address."""
    program = tool("prometheus-alertmanager")
    address = f"127.0.0.1:{free_ports()}"
    folder = tmp_path_factory.mktemp("alertmanager")
    options = [f"--config.file={CONFIGURATION}", f"--storage.path={folder}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, *options, "--cluster.listen-address="], stdout=log, stderr=log)
    try:
        wait_until(lambda: urlopen(f"http://{address}/-/ready", timeout=5).status == 200)
        yield f"http://{address}/api/v2/alerts"
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_until(what):
    end = time.monotonic() + START_S
    while True:
        try:
            if what():
                return
        except (URLError, ConnectionError, TimeoutError):
            pass
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.05)


def labels_of(name, **more):
    """Labels as the rule gives them."""
    rule = next(rule for rule in alerts() if rule["alert"] == name)
    return {"alertname": name, **rule["labels"], **more}


def held_back(address, source, target):
    """Whether `target` is inhibited while `source` fires."""
    body = json.dumps([{"labels": labels, "startsAt": datetime.now(UTC).isoformat()} for labels in (source, target)])
    urlopen(Request(address, body.encode(), {"Content-Type": "application/json"}), timeout=5).close()
    found = {}

    def both_are_there():
        with urlopen(address, timeout=5) as answer:
            for alert in json.load(answer):
                found[tuple(sorted(alert["labels"].items()))] = alert["status"]
        return all(tuple(sorted(labels.items())) in found for labels in (source, target))

    wait_until(both_are_there)
    status = found[tuple(sorted(target.items()))]
    end = time.monotonic() + 2
    # The inhibitor learns of a source a moment after the API does.
    while not status["inhibitedBy"] and time.monotonic() < end:
        both_are_there()
        status = found[tuple(sorted(target.items()))]
        time.sleep(0.1)
    return bool(status["inhibitedBy"])


COMPONENT = {**WHOSE, "component": "market"}


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (("TollwatchDatabaseDown", {"job": "tollwatch-api"}), ("TollwatchWalletBalanceLow", {"wallet": "W"}), True),
        (("TollwatchDatabaseDown", {"job": "tollwatch-api"}), ("TollwatchBalanceStale", {"wallet": "W"}), True),
        (("TollwatchDatabaseDown", {"job": "tollwatch-api"}), ("TollwatchSamplingStalled", {}), True),
        (
            ("TollwatchDatabaseDown", {"job": "tollwatch-api"}),
            ("TollwatchIngestRejections", {"code": "too_late"}),
            False,
        ),
        (("TollwatchApiDown", {}), ("TollwatchPaymentFailuresHigh", {"asset": "USDC"}), True),
        (("TollwatchApiDown", {}), ("TollwatchCollectorDown", {}), False),
        (("TollwatchBreakerFlapping", COMPONENT), ("TollwatchBreakerOpen", COMPONENT), True),
        (("TollwatchBreakerFlapping", COMPONENT), ("TollwatchBreakerOpen", {**COMPONENT, "component": "other"}), False),
        (("TollwatchBreakerFlapping", COMPONENT), ("TollwatchBreakerOpen", {**COMPONENT, "agent": "other"}), False),
        (("TollwatchCollectorDown", {}), ("TollwatchSamplingStalled", {}), True),
        (("TollwatchSamplingStalled", {}), ("TollwatchBalanceStale", {"wallet": "W"}), True),
        (("TollwatchBalanceStale", {"wallet": "W"}), ("TollwatchSamplingStalled", {}), False),
    ],
    ids=lambda value: value[0].removeprefix("Tollwatch") if isinstance(value, tuple) else str(value),
)
def test_what_follows_from_what_is_known_is_held_back(alertmanager, request, source, target, expected):
    # An environment of its own keeps each case apart from the others.
    own = {"environment": request.node.name}
    source, target = (labels_of(name, **{**WHOSE, **more, **own}) for name, more in (source, target))
    assert held_back(alertmanager, source, target) is expected


def test_another_environment_is_not_held_back(alertmanager):
    source = labels_of("TollwatchApiDown", environment="one")
    assert not held_back(
        alertmanager, source, labels_of("TollwatchWalletBalanceLow", **{**WHOSE, "environment": "two"})
    )


def start(script, tmp_path, **environ):
    """Run a start script whose program prints its arguments and environment."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$@"\nenv\n')
    program.chmod(0o700)
    environ = {"PATH": os.environ["PATH"], "RUN_DIR": str(tmp_path), "CONFIG": str(CONFIGURATION), **environ}
    environ |= {"PROMETHEUS": str(program), "ALERTMANAGER": str(program)}
    return subprocess.run(
        ["/bin/sh", PROMETHEUS / script, "--flag"], env=environ, capture_output=True, text=True, timeout=20, check=False
    )


def is_private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_prometheus_gets_its_key_in_a_private_file(tmp_path):
    done = start("start-prometheus", tmp_path, METRICS_KEY="tw_a%s_b\\n")
    assert done.stdout.startswith("--flag\n")
    assert "tw_a" not in done.stdout
    assert (tmp_path / "metrics_key").read_text() == "tw_a%s_b\\n"
    assert is_private(tmp_path / "metrics_key")
    credentials = load(PROMETHEUS / "prometheus.yml")["scrape_configs"][0]["authorization"]["credentials_file"]
    assert Path(credentials).name == "metrics_key"


def test_prometheus_without_a_key_says_how_to_make_one(tmp_path):
    done = start("start-prometheus", tmp_path)
    assert done.returncode == 1
    assert "keys create prometheus --project NAME --scopes metrics" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/T0/B0?a=1&b=2",
        "https://u:p|q@hooks.example/x#y",
        "http://h.example/it's\\1&",
        "http://h/: #{}",
    ],
)
def test_alertmanager_gets_the_webhook_whatever_is_in_it(tmp_path, url):
    done = start("start-alertmanager", tmp_path, ALERT_WEBHOOK_URL=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"--config.file={tmp_path}/alertmanager.yml --flag\n")
    assert url not in done.stdout
    made = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    assert made["receivers"][0]["webhook_configs"][0]["url"] == url
    assert is_private(tmp_path / "alertmanager.yml")


def test_alertmanager_accepts_what_the_script_makes(tmp_path):
    start("start-alertmanager", tmp_path, ALERT_WEBHOOK_URL="https://hooks.example/T0/B0?a=1&b=2")
    run("amtool", "check-config", tmp_path / "alertmanager.yml")


def test_without_a_webhook_nobody_is_told(tmp_path):
    done = start("start-alertmanager", tmp_path)
    assert "ALERT_WEBHOOK_URL is not set" in done.stderr
    assert "operators" not in json.dumps(yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["route"])
    run("amtool", "check-config", tmp_path / "alertmanager.yml")
