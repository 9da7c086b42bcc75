"""The distribution: it is built, installed and used where there is httpx, and nothing of the server."""

import json
import subprocess
import sys
import venv
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.databases import ROOT

CLOSURE = ("httpx", "httpcore", "h11", "anyio", "idna", "certifi", "sniffio", "typing_extensions.py")
"""httpx and what it depends on, by the names of their files; some versions need fewer."""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_alone(tmp_path):
    source = tmp_path / "source"
    run("cp", "-r", str(ROOT / "clients" / "python"), str(source))
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(tmp_path),
        str(source),
    )
    (wheel,) = tmp_path.glob("tollwatch-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel))
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    for name in CLOSURE:
        found = Path(pytest.__file__).parent.parent / name
        if found.exists():
            (packages / name).symlink_to(found)
    said = run(
        str(python),
        "-c",
        "import httpx, json, sys, tollwatch; from importlib.metadata import requires;"
        "recorder = tollwatch.Recorder('', 'k', 'a');"
        "httpx.Client(transport=tollwatch.TollwatchTransport(recorder)).close();"
        "print(json.dumps([requires('tollwatch'), tollwatch.__file__, sorted(sys.modules)]))",
        cwd=tmp_path,
    )
    needed, file, modules = json.loads(said)
    assert [Requirement(one).name for one in needed] == ["httpx"]
    assert file.startswith(str(packages))
    assert (packages / "tollwatch" / "py.typed").exists()
    assert not {"store", "api", "msgspec", "x402", "solders"} & set(modules)


def test_the_lock_satisfies_what_it_needs():
    import httpx  # noqa: PLC0415

    (needed,) = [Requirement(one) for one in requires("tollwatch")]
    assert needed.specifier.contains(httpx.__version__)


def test_it_stays_out_of_the_production_image():
    dockerfile, ignored = (ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text()
    assert "clients" not in dockerfile
    assert "!clients" not in ignored


def test_the_bench_says_what_it_promises():
    lines = [
        json.loads(line) for line in run(sys.executable, "-m", "bench.client", "--calls", "20", cwd=ROOT).splitlines()
    ]
    assert [line["case"] for line in lines] == ["without", "with", "added", "record"]
    for line in lines:
        assert (line["bench"], line["calls"]) == ("client", 20)
        assert all(name.endswith("_ms") for name in line if name not in ("bench", "case", "calls", "load_1min"))
