"""The README's commands, run as they stand there, against the running product."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from store.embedded import bundled_bin_dir
from tests.databases import ROOT
from tests.e2e.stack import DEV_KEY, Process, Product, Rpc, listed, status_of, until
from tests.ports import free_ports


@pytest.fixture
def product(plain_server, tmp_path):
    """The product on the default ports' stand-ins, with something to see."""
    database = plain_server.clone()
    with Product(plain_server.url(database), tmp_path, "--speed", "5") as running:
        running.database_url = plain_server.url(database)
        yield running
    drop_readers(plain_server, database)
    plain_server.drop(database)


def drop_readers(server, database):
    import psycopg  # noqa: PLC0415

    with psycopg.connect(server.url(database), autocommit=True) as connection:
        for (role,) in connection.execute("SELECT role FROM tollwatch.project_roles").fetchall():
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def section(title):
    """The indented lines of one section."""
    text = (ROOT / "README.md").read_text()
    body = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    return [line[4:] for line in body.splitlines() if line.startswith("    ")]


def shell(product, script):
    """Run lines as a person would paste them; stdout. Ports are those of this run."""
    script = script.replace("http://127.0.0.1:8402", product.url).replace("http://127.0.0.1:8899", product.chain)
    environ = {
        **os.environ,
        "TOLLWATCH_DATABASE_URL": product.database_url,
        "PATH": f"{bundled_bin_dir()}:{os.environ['PATH']}",
    }
    script = script.replace(".venv/bin/", f"{ROOT}/.venv/bin/") if (ROOT / ".venv").exists() else script
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (script, done.stderr)
    return done.stdout


def test_the_commands_of_the_first_look(product):
    with product.client() as http:
        until(lambda: len(listed(http, "/v1/payments", status="settled")) > 5, 60, "payments")
        until(lambda: "scout" in {item["agent"] for item in listed(http, "/v1/balances")}, 30, "scout's balances")
    looks = [line for line in section("Run it") if line.startswith(("curl", "psql"))]
    assert len(looks) == 5
    metrics, payments, hourly, balances, books = (shell(product, line) for line in looks)
    assert "tollwatch_wallet_balance{" in metrics
    assert len(json.loads(payments)["items"]) == 3
    assert {item["asset"] for item in json.loads(hourly)["items"]} <= {"USDC", "CASH"}
    assert "scout" in balances
    assert json.loads(books)["agents"]


def test_the_first_own_agent_reports(product):
    assert shutil.which("bash")
    said = shell(product, "\n".join(section("Your first agent")))
    assert '"accepted":1' in said
    with product.client() as http:
        [payment] = listed(http, "/v1/payments", agent="mine")
    assert (payment["amount"], payment["asset"], payment["service"]) == ("2500", "USDC", "https://api.example")


def test_production_on_one_host(plain_server, tmp_path):
    """The lines of "Production", on an empty database and a chain that is somebody else's process."""
    database, chain, api = plain_server.create(), free_ports(4), free_ports(2)
    settings = {
        "TOLLWATCH_DATABASE_URL": plain_server.url(database),
        "TOLLWATCH_RPC_URLS": f"http://127.0.0.1:{chain}",
        "TOLLWATCH_PORT": str(api),
        "TOLLWATCH_HOME": str(tmp_path),
    }
    export, *commands, up = section("Production")
    assert export == "export TOLLWATCH_DATABASE_URL=postgresql://… TOLLWATCH_RPC_URLS=https://…"
    assert up == "tollwatch up --no-sandbox"
    environ = {**os.environ, **settings, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    key = done.stdout.strip().splitlines()[-1]
    world = Process("chain", ["sandbox", "--port", str(chain), "--pace", "0", "--tollwatch-url", ""], tmp_path)
    product = Process("up", ["cli", *up.split()[1:]], tmp_path, **settings)
    try:
        until(
            lambda: status_of(f"http://127.0.0.1:{api}/readyz") == 200 or product.popen.poll() is not None, 60, "ready"
        )
        asked = {"headers": {"Authorization": f"Bearer {key}"}, "timeout": 10, "trust_env": False}
        assert httpx.get(f"http://127.0.0.1:{api}/v1/agents", **asked).json() == {"items": [], "next": None}
        refused = httpx.get(f"http://127.0.0.1:{api}/v1/agents", headers=DEV_KEY, timeout=10, trust_env=False)
        assert refused.status_code == 401
    finally:
        assert [process.stop() for process in (product, world)] == [0, 0], product.text()
    plain_server.drop(database)


def test_the_agent_that_is_watched(product, tmp_path):
    """The block of "An agent of yours, watched", as it stands there: it buys, and what it bought is shown."""
    text = (ROOT / "README.md").read_text()
    script = re.search(r"^## An agent of yours, watched$.*?^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    assert script == (ROOT / "examples" / "agent.py").read_text()
    chain = int(product.chain.rsplit(":", 1)[1])
    places = {8402: product.url, 8899: product.chain, 8901: f"http://127.0.0.1:{chain + 2}"}
    for port, url in places.items():
        script = script.replace(f"http://127.0.0.1:{port}", url)
    (tmp_path / "agent.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "agent.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 ")
    with product.client() as http:
        [payment] = listed(http, "/v1/payments", agent="my-agent", status="settled")
        [request] = listed(http, "/v1/requests", agent="my-agent")
    rpc = Rpc(product.chain)
    try:
        settled = rpc("getSignatureStatuses", [payment["signature"]])["value"][0]
    finally:
        rpc.close()
    assert settled["err"] is None
    assert payment["asset"] in {"USDC", "CASH"}
    assert (request["outcome"], request["payment_id"]) == ("ok", payment["payment_id"])
