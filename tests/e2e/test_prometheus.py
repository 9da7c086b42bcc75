"""A real Prometheus scrapes the running stories; a real Alertmanager delivers what they should raise, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.databases import ROOT
from tests.e2e.stack import Product, status_of, until
from tests.ports import free_ports
from tests.programs import tool

RAISED = {
    ("TollwatchWalletBalanceLow", "poor"),
    ("TollwatchBreakerFlapping", "flaky"),
    ("TollwatchPaymentsUnknown", "cheated"),
}
"""What the stories must raise."""
MAY = {
    ("TollwatchBreakerOpen", "flaky"),
    ("TollwatchRetryStorm", "flaky"),
    ("TollwatchPaymentFailuresHigh", "flaky"),
    ("TollwatchWalletRunwayShort", "poor"),
    ("TollwatchWalletRunwayShort", "flaky"),
}
"""What they raise or not, by where in a cycle they are looked at: at this speed a cycle takes seconds."""
SPEED = 20


@pytest.fixture
def inbox():
    """A webhook that keeps what it is told: (alertname, agent) of firing alerts."""
    told = set()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.update(
                (a["labels"]["alertname"], a["labels"].get("agent")) for a in body["alerts"] if a["status"] == "firing"
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], told
    server.shutdown()
    server.server_close()


def minutes_as_seconds(text):
    """The same rules, sixty times as impatient; a runway is as much shorter as the stories are faster.

    What counts over half an hour counts over a minute: 17 changes of the flaky breaker come in half of one, 12 or fewer
    where other tests want the processors, and 8 are an alert.
    """
    text = re.sub(r"\b30m\b", "60s", text)
    text = re.sub(r"\b(\d+)m\b", r"\1s", text)
    return text.replace("< 6 * 3600", f"< 6 * 3600 / {SPEED * 3}").replace("< 3600", f"< 3600 / {SPEED * 3}")


@pytest.fixture
def watched(plain_server, tmp_path, inbox):
    """The product with all stories, Prometheus and Alertmanager beside it."""
    prometheus, alertmanager = tool("prometheus"), tool("prometheus-alertmanager")
    database = plain_server.clone()
    hook, told = inbox
    first = free_ports(2)
    started = []
    fresh = {"TOLLWATCH_METRICS_INTERVAL": "0s"}  # at each scrape: the rules take seconds for minutes
    with Product(plain_server.url(database), tmp_path, "--speed", str(SPEED), **fresh) as product:
        try:
            (tmp_path / "rules").mkdir()
            for file in (ROOT / "prometheus" / "rules").glob("*.yml"):
                (tmp_path / "rules" / file.name).write_text(minutes_as_seconds(file.read_text()))
            config = (ROOT / "prometheus" / "local.yml").read_text()
            config = re.sub(r"_interval: \d+s", "_interval: 1s", config).replace(
                "scrape_timeout: 4s", "scrape_timeout: 1s"
            )
            config = config.replace("127.0.0.1:8402", product.url.removeprefix("http://"))
            config = config.replace("127.0.0.1:8403", product.collector_url.removeprefix("http://"))
            config = re.sub(r"^# (alerting:|  alertmanagers:|    - static)", r"\1", config, flags=re.MULTILINE)
            config = re.sub(
                r"^#( {5,}- targets: \[)127.0.0.1:9093", rf"\g<1>127.0.0.1:{first + 1}", config, flags=re.MULTILINE
            )
            (tmp_path / "prometheus.yml").write_text(config)
            alerts = (ROOT / "prometheus" / "alertmanager.yml").read_text()
            alerts = alerts.replace("http://alerts.invalid/", f"http://127.0.0.1:{hook}/").replace(
                "receiver: nobody", "receiver: operators", 1
            )
            alerts = re.sub(r"group_wait: \w+", "group_wait: 1s", alerts)
            alerts = re.sub(r"group_interval: \w+", "group_interval: 1s", alerts)
            (tmp_path / "alertmanager.yml").write_text(alerts)
            started = [
                run(
                    "alertmanager",
                    tmp_path,
                    alertmanager,
                    f"--config.file={tmp_path}/alertmanager.yml",
                    f"--storage.path={tmp_path}/am",
                    f"--web.listen-address=127.0.0.1:{first + 1}",
                    "--cluster.listen-address=",
                ),
                run(
                    "prometheus",
                    tmp_path,
                    prometheus,
                    f"--config.file={tmp_path}/prometheus.yml",
                    f"--storage.tsdb.path={tmp_path}/tsdb",
                    f"--web.listen-address=127.0.0.1:{first}",
                ),
            ]
            until(lambda: status_of(f"http://127.0.0.1:{first}/-/ready") == 200, 60, "Prometheus is ready")
            yield product, f"http://127.0.0.1:{first}", told
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)
    plain_server.drop(database)


def run(name, folder, *command):
    with (folder / f"{name}.log").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)


def test_the_stories_raise_their_alerts_and_no_other(watched):
    product, prometheus, told = watched
    promtool = tool("promtool")
    until(lambda: told >= RAISED, 150, f"{RAISED} are delivered")
    assert told - RAISED - MAY == set()
    targets = httpx.get(f"{prometheus}/api/v1/targets", timeout=10, trust_env=False).json()["data"]["activeTargets"]
    assert [target["health"] for target in targets] == ["up", "up"]
    groups = httpx.get(f"{prometheus}/api/v1/rules", timeout=10, trust_env=False).json()["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    for url in (product.url, product.collector_url):
        page = httpx.get(f"{url}/metrics", timeout=10, trust_env=False).content
        checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b""), url
