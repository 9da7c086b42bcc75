"""The README's commands, run as they stand there, against the running product."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from store.embedded import bundled_bin_dir
from tests.databases import ROOT
from tests.e2e.stack import Product, listed, until


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
        until(lambda: listed(http, "/v1/balances"), 30, "balances")
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
